"""Requests of a connection that does not keep up: they wait for room no longer than for their answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from choregos.foundation.errors import CallCancelled, DeadlineExceeded, Unavailable
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.replies import Replies


class Connection:
    """Notes what it is given; full until `drain`."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int]] = []
        self.full: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        self.replies = Replies("inbox.", self._send, Deadlines())

    def _send(self, subject: str, payload: bytes, number: int) -> asyncio.Future[None] | None:
        if number == 0 or self.full is None:
            self.sent.append((payload, number))
            return None
        return self.full

    def drain(self) -> None:
        full, self.full = self.full, None
        assert full is not None
        full.set_result(None)

    async def asks(self, payload: bytes, timeout_s: float = 60.0) -> asyncio.Task[bytes]:
        """A request that has got as far as it can."""
        farewell = lambda reply: b"bye " + reply.encode()  # noqa: E731
        task = asyncio.ensure_future(self.replies.ask("a.b", payload, timeout_s, farewell))
        for _ in range(3):
            await asyncio.sleep(0)
        return task


async def test_the_deadline_ends_what_could_not_be_sent() -> None:
    connection = Connection()
    with pytest.raises(DeadlineExceeded):
        await (await connection.asks(b"hello", 0.02))
    assert connection.sent == []
    assert len(connection.replies) == 0


async def test_what_could_not_be_sent_says_no_farewell() -> None:
    connection = Connection()
    task = await connection.asks(b"hello")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert connection.sent == []


async def test_numbers_are_sent_in_their_order() -> None:
    connection = Connection()
    early = [await connection.asks(payload) for payload in (b"1", b"2")]
    connection.drain()
    late = await connection.asks(b"3")
    assert sorted(payload for payload, _ in connection.sent) == [b"1", b"2", b"3"]
    numbers = [number for _, number in connection.sent]
    assert numbers == sorted(numbers)
    for payload, number in connection.sent:
        connection.replies.deliver(number, b"re:" + payload)
    assert await asyncio.gather(*early, late) == [b"re:1", b"re:2", b"re:3"]


async def test_a_cancelled_request_ends_as_such_even_if_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection()
    connection.drain()
    task = await connection.asks(b"hello")

    def lost(*_: Any) -> None:
        raise Unavailable("the bus cannot be reached")

    monkeypatch.setattr(connection.replies, "_send", lost)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_was_sent_after_the_last_one_taken_did_not_begin() -> None:
    connection = Connection()
    connection.drain()
    first, second = [await connection.asks(payload) for payload in (b"1", b"2")]
    connection.replies.refuse_after(connection.sent[0][1], "no more")
    with pytest.raises(Unavailable, match="no more"):
        await second
    connection.replies.close("gone")
    with pytest.raises(CallCancelled, match="gone"):
        await first
