"""The port to the bus for calls: request and reply, at most once, nothing stored.

Backends are `backends/nats.py` (core NATS), `backends/memory.py`, and `backends/neighbours.py`, which takes a shorter
way where there is one and another backend elsewhere; one suite of tests runs over all of them
(`tests/messaging/test_messaging_transport.py`). The transport moves bytes and knows no frame: what a payload means is
the affair of `choregos.wire.calls`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

OnMessage = Callable[[bytes, str], None]
"""Takes payload and reply subject (empty if none is wanted). Runs inside the reading of the connection: it must not
block and should not raise; what it raises is logged."""

Closer = Callable[[], Awaitable[None]]
"""Ends a subscription; when it has returned no message is delivered any more."""

Farewell = Callable[[str], bytes]
"""Makes, from a request's reply subject, the message that tells its receiver that nobody waits any more."""


class CallTransport(Protocol):
    """Requests and their replies; safe for any number of tasks of one event loop."""

    async def request(self, subject: str, payload: bytes, timeout_s: float, farewell: Farewell | None = None) -> bytes:
        """Sends `payload` and returns the first reply.

        When the waiting task is cancelled and `farewell` is given, its message is published to the same subject.

        Raises:
            Unavailable: nobody listens on the subject, or the bus cannot be reached; nothing was sent.
            DeadlineExceeded: no reply within `timeout_s` seconds; it may have been received.
            CallCancelled: there will be no reply, as this transport was closed; it may have been received.
            HostLost: there will be no reply, as whoever was asked has ended; it may have been received.
            Overloaded: too many requests wait already.
            PayloadTooLarge: nothing was sent.
        """
        ...

    async def publish(self, subject: str, payload: bytes) -> None:
        """Sends one message: a reply, or news that nobody need hear.

        Raises:
            Unavailable: the bus cannot be reached and its buffer is full.
        """
        ...

    async def serve(self, subject: str, on_message: OnMessage) -> Closer:
        """Delivers what is sent to `subject` from now on (the bus knows it when this returns), across reconnects."""
        ...

    def abandon(self, gone: Callable[[str], bool]) -> None:
        """Whoever served the subjects that `gone` is true of has ended: requests to them under way raise `HostLost`."""
        ...

    async def close(self) -> None:
        """Ends the waiting for replies: requests under way raise `CallCancelled`. Leaves the connection open."""
        ...
