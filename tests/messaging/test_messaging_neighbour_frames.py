"""The frames of neighbours: bytes in any pieces, the same calls out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.foundation.errors import PayloadTooLarge
from choregos.messaging.backends.neighbour_frames import PAYLOAD_BYTES_MAX, FrameError, FrameReader, frame

FRAMES = st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=300))


def read(pieces: list[bytes]) -> list[tuple[int, bytes]]:
    frames: list[tuple[int, bytes]] = []
    reader = FrameReader(lambda number, payload: frames.append((number, payload)))
    for piece in pieces:
        reader.feed(piece)
    return frames


@given(st.lists(FRAMES, max_size=8), st.data())
def test_pieces_do_not_matter(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frame(*each) for each in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(pieces) == frames


def test_the_largest_comes_in_bytes() -> None:
    stream = frame(7, b"x" * PAYLOAD_BYTES_MAX)
    assert read([stream[at : at + 1] for at in range(200)] + [stream[200:]]) == [(7, b"x" * PAYLOAD_BYTES_MAX)]


def test_half_a_frame_is_none() -> None:
    assert read([frame(1, b"whole"), frame(2, b"half")[:-1]]) == [(1, b"whole")]


@given(st.binary(min_size=12, max_size=400))
def test_nonsense_is_refused_or_read_but_never_waited_for_beyond_the_limit(nonsense: bytes) -> None:
    try:
        read([nonsense])
    except FrameError:
        assert int.from_bytes(nonsense[:4], "big") > PAYLOAD_BYTES_MAX or len(nonsense) > 12


def test_what_is_too_large_is_neither_sent_nor_read() -> None:
    with pytest.raises(PayloadTooLarge, match="1,179,649"):
        frame(1, b"x" * (PAYLOAD_BYTES_MAX + 1))
    with pytest.raises(FrameError, match="1,179,649"):
        read([(PAYLOAD_BYTES_MAX + 1).to_bytes(4, "big") + bytes(8)])
