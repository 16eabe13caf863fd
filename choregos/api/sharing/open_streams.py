"""Answers that stay open, or wait for an agent or a node: how many there may be, and how they end with the server.

Invariants: after `close` no stream waits any more; each ends by itself after its current line. A flow's streams are
counted from when the answer is made until it has been sent, or could not be.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from choregos.api.rules.status import too_many_requests
from choregos.api.sharing.fairness import Seat
from choregos.foundation.timeout import timeout

T = TypeVar("T")


class Alarm:
    """Wakes somebody once; see `OpenStreams.alarm`."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.rung = False

    def ring(self) -> None:
        self.rung = True
        self._wake()


class OpenStreams:
    """All open streams of one server, and all waits of theirs.

    Args:
        flow_max: streams that one flow may have open at a time.
    """

    def __init__(self, flow_max: int) -> None:
        self._flow_max = flow_max
        self._flows: Counter[str] = Counter()
        self._waits: set[asyncio.Timeout] = set()
        self._alarms: set[Alarm] = set()
        self.closing = False

    def answer(self, flow: str, content: AsyncIterator[bytes], media_type: str, seat: Seat | None = None) -> Response:
        """An answer that stays open until `content` ends or the client goes away; it has to be sent.

        Args:
            seat: left at the end, and whenever what is sent has to wait for the client, who sets the pace then;
                `content` takes it again before it makes more.

        Raises:
            Refusal: 429, the flow has too many.
        """
        self._begun(flow)

        return _Counted(content, media_type, lambda: self._ended(flow), seat)

    @contextmanager
    def open(self, flow: str) -> Iterator[None]:
        """What is no such answer, such as a WebSocket or the call of an agent, for as long as the context lasts.

        Raises:
            Refusal: 429, the flow has too many.
        """
        self._begun(flow)
        try:
            yield
        finally:
            self._ended(flow)

    def _begun(self, flow: str) -> None:
        if self._flows[flow] >= self._flow_max:
            raise too_many_requests(f"{flow} has {self._flow_max} streams open already")
        self._flows[flow] += 1

    def _ended(self, flow: str) -> None:
        self._flows[flow] -= 1
        if not self._flows[flow]:
            del self._flows[flow]

    async def wait(self, event: Awaitable[T]) -> T:
        """The result of `event`.

        Raises:
            TimeoutError: the server is `closing`.
        """
        async with timeout(0 if self.closing else None) as scope:
            self._waits.add(scope)
            try:
                return await event
            finally:
                self._waits.discard(scope)

    @contextmanager
    def alarm(self, wake: Callable[[], None], after_s: float) -> Iterator[Alarm]:
        """Calls `wake` after so many seconds, or when the server is `closing`, unless the context was left before.

        For who waits many times until then: it costs nothing per wait.
        """
        alarm = Alarm(wake)
        self._alarms.add(alarm)
        timer = asyncio.get_running_loop().call_later(0 if self.closing else after_s, alarm.ring)
        try:
            yield alarm
        finally:
            timer.cancel()
            self._alarms.discard(alarm)

    def close(self) -> None:
        """Ends every wait, now and in future."""
        self.closing = True
        for alarm in self._alarms:
            alarm.ring()
        now = asyncio.get_running_loop().time()
        for scope in self._waits:
            scope.reschedule(now)


class _Counted(StreamingResponse):
    """Tells when it has ended, however it does, and leaves its seat."""

    def __init__(
        self, content: AsyncIterator[bytes], media_type: str, on_end: Callable[[], None], seat: Seat | None
    ) -> None:
        super().__init__(content, media_type=media_type)
        self._on_end = on_end
        self._seat = seat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seat = self._seat
        try:
            await super().__call__(scope, receive, send if seat is None else partial(_send_seated, seat, send))
        finally:
            self._on_end()
            if seat is not None:
                seat.leave()


async def _send_seated(seat: Seat, send: Send, message: Message) -> None:
    if not seat.held:
        await send(message)
        return
    waiting = asyncio.get_running_loop().call_soon(seat.leave)  # which happens only if `send` has to wait
    await send(message)
    waiting.cancel()
