"""Frames survive any cut of the stream, and what is no frame is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.agent.frames import FrameReader, encode
from choregos.foundation.errors import TooLarge
from choregos.wire.worker import FRAME_BYTES_MAX, Hello, Ping, Pong, Stopped, ToNode, ToWorker

MESSAGES = st.lists(
    st.one_of(
        st.builds(Hello, pid=st.integers(1, 2**31)),
        st.builds(Stopped, uids=st.lists(st.text(max_size=40), max_size=5).map(tuple)),
        st.builds(Pong, st.integers(0, 2**31)),
    ),
    max_size=10,
)


@given(MESSAGES, st.lists(st.integers(1, 60), min_size=1))
def test_messages_arrive_whole_and_in_order_however_the_stream_is_cut(messages, cuts):
    stream = b"".join(map(encode, messages))
    reader = FrameReader(ToNode)
    received = []
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        received += reader.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    assert received == messages


def test_what_is_no_message_of_the_protocol_is_refused():
    with pytest.raises(msgspec.MsgspecError):
        FrameReader(ToWorker).feed(b"\0\0\0\1\xc0")


def test_a_frame_over_the_limit_is_refused_before_it_is_read():
    with pytest.raises(TooLarge):
        FrameReader(ToWorker).feed((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))


def test_a_frame_over_the_limit_is_not_sent():
    with pytest.raises(TooLarge):
        encode(Stopped(("x" * FRAME_BYTES_MAX,)))


def test_a_reader_keeps_nothing_of_what_it_has_delivered():
    reader = FrameReader(ToWorker)
    assert reader.feed(encode(Ping(1)) + encode(Ping(2))[:3]) == [Ping(1)]
    assert reader.feed(encode(Ping(2))[3:]) == [Ping(2)]
