"""The NATS protocol's parser: bytes in any pieces, the same calls out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.messaging.backends.nats_parser import LINE_BYTES_MAX, Parser, ProtocolError

TOKENS = st.text("abcXYZ019_-.", min_size=1, max_size=20).map(str.encode)
Event = tuple[object, ...]


def parsed(pieces: list[bytes]) -> list[Event]:
    events: list[Event] = []
    parser = Parser(
        lambda *message: events.append(("message", *message)), lambda verb, rest: events.append((verb, rest))
    )
    for piece in pieces:
        parser.feed(piece)
    return events


def message(sid: bytes, subject: bytes, reply: bytes, payload: bytes) -> bytes:
    head = b" ".join(part for part in (b"MSG", subject, sid, reply) if part)
    return head + b" %d\r\n%b\r\n" % (len(payload), payload)


MESSAGES = st.tuples(
    st.integers(1, 999).map(lambda n: b"%d" % n), TOKENS, st.just(b"") | TOKENS, st.binary(max_size=200)
)


@given(st.lists(MESSAGES, max_size=8), st.data())
def test_pieces_do_not_matter(messages: list[tuple[bytes, bytes, bytes, bytes]], data: st.DataObject) -> None:
    stream = b"".join(message(*each) + b"PING\r\n" for each in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    expected: list[Event] = []
    for sid, subject, reply, payload in messages:
        expected += [("message", sid, subject, reply, payload, b""), (b"PING", b"")]
    assert parsed(pieces) == expected


def test_headers_give_the_status_and_the_payload_behind_them() -> None:
    no_responders = b"HMSG _INBOX.a.1 7 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    with_reply = b"HMSG a.b 8 re.1 19 22\r\nNATS/1.0\r\nA: bc\r\n\r\nxyz\r\n"
    assert parsed([no_responders, with_reply]) == [
        ("message", b"7", b"_INBOX.a.1", b"", b"", b"503"),
        ("message", b"8", b"a.b", b"re.1", b"xyz", b""),
    ]


def test_other_lines_keep_their_text() -> None:
    assert parsed([b"INFO {\"a\": 1}\r\n-ERR 'Permissions Violation'\r\n+OK\r\npong\r\n"]) == [
        (b"INFO", b'{"a": 1}'),
        (b"-ERR", b"'Permissions Violation'"),
        (b"+OK", b""),
        (b"PONG", b""),
    ]


@pytest.mark.parametrize(
    "bad", [b"MSG a\r\n", b"MSG a 1 x\r\n", b"HMSG a 1 x 10\r\n0123456789\r\n", b"MSG a 1 -5 q\r\n"]
)
def test_a_broken_message_line_is_an_error(bad: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot read"):
        parsed([bad])


def test_a_line_without_end_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="longer"):
        parsed([b"x" * 40_000, b"x" * (LINE_BYTES_MAX - 30_000)])
