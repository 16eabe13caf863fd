"""Calls within one process, for tests and for running agents without a bus.

As on the real bus a message is delivered after its sender has gone on, a subject without a listener answers at once,
and a closed connection refuses. One listener per subject; `a.*` listens to every
`a.<token>`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import count

from choregos.foundation.errors import AlreadyExists, Unavailable
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.replies import Replies
from choregos.messaging.transport import Closer, Farewell, OnMessage

Listener = Callable[[str, bytes, str], None]
"""Takes subject, payload and reply subject."""

log = logging.getLogger(__name__)


class MemoryBus:
    """What the transports of one simulated cluster share.

    Attributes:
        reachable: set it to False to cut every transport off; what is sent then raises `Unavailable`.
    """

    def __init__(self) -> None:
        self.reachable = True
        self.numbers = count(1)
        self._listeners: dict[str, Listener] = {}

    def listen(self, subject: str, listener: Listener) -> None:
        if subject in self._listeners:
            raise AlreadyExists(f"{subject} has a listener already")
        self._listeners[subject] = listener

    def silence(self, subject: str) -> None:
        self._listeners.pop(subject, None)

    def listener(self, subject: str) -> Listener | None:
        return self._listeners.get(subject) or self._listeners.get(subject.rpartition(".")[0] + ".*")

    def send(self, subject: str, payload: bytes, reply: str) -> None:
        if not self.reachable:
            raise Unavailable("the bus cannot be reached")
        asyncio.get_running_loop().call_soon(self._deliver, subject, payload, reply)

    def _deliver(self, subject: str, payload: bytes, reply: str) -> None:
        # Looked up at delivery: what was sent to a listener that has closed meanwhile is lost, as on the bus.
        listener = self.listener(subject)
        if listener is None:
            return
        try:
            listener(subject, payload, reply)
        except Exception:
            log.exception("a listener of %s failed", subject)


class MemoryCallTransport:
    """One connection to a `MemoryBus`; must be made inside the event loop."""

    def __init__(self, bus: MemoryBus, deadlines: Deadlines) -> None:
        self._bus = bus
        self._prefix = f"_INBOX.{next(bus.numbers)}."
        self._replies = Replies(self._prefix, self._send, deadlines)
        bus.listen(self._prefix + "*", self._answered)

    async def request(self, subject: str, payload: bytes, timeout_s: float, farewell: Farewell | None = None) -> bytes:
        if self._bus.listener(subject) is None:
            raise Unavailable(f"nobody listens on {subject}")
        return await self._replies.ask(subject, payload, timeout_s, farewell)

    async def publish(self, subject: str, payload: bytes) -> None:
        self._bus.send(subject, payload, "")

    async def serve(self, subject: str, on_message: OnMessage) -> Closer:
        self._bus.listen(subject, lambda _, payload, reply: on_message(payload, reply))

        async def close() -> None:
            self._bus.silence(subject)

        return close

    def abandon(self, gone: Callable[[str], bool]) -> None:
        self._replies.abandon(gone)

    async def close(self) -> None:
        self._replies.close()
        self._bus.silence(self._prefix + "*")

    def _send(self, subject: str, payload: bytes, number: int) -> None:
        self._bus.send(subject, payload, f"{self._prefix}{number}" if number else "")

    def _answered(self, subject: str, answer: bytes, _: str) -> None:
        self._replies.deliver(int(subject[len(self._prefix) :]), answer)
