"""Replies to many requests over one connection, each known by its number and matched by a dictionary of futures.

All backends use it. No task per request, no timer per request: a future, an entry of the wheel, a dictionary entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from choregos.foundation.errors import CallCancelled, CallError, DeadlineExceeded, HostLost, Overloaded, Unavailable
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.transport import Farewell

WAITING_MAX = 65_536
"""Requests that may wait for replies over one connection at once."""

Send = Callable[[str, bytes, int], "asyncio.Future[None] | None"]
"""Hands subject, payload and number to the connection. Returns None; or, if the connection does not keep up, what is
done when it may be tried again, and nothing was sent. What wants no reply has the number 0 and is sent in any case.
Raises as `CallTransport.publish`."""


class Replies:
    """The requests of one connection that wait.

    Invariants: a request is in `_waiting` exactly as long as its task is in `ask`; numbers are sent in their order.

    Attributes:
        prefix: what the reply subjects of this connection begin with, the dot included.
    """

    def __init__(self, prefix: str, send: Send, deadlines: Deadlines) -> None:
        self.prefix = prefix
        self._send = send
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._waiting: dict[int, tuple[str, asyncio.Future[bytes | CallError]]] = {}  # by number: subject and outcome
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def asked(self) -> int:
        """Requests that there have been."""
        return self._number

    async def ask(self, subject: str, payload: bytes, timeout_s: float, farewell: Farewell | None) -> bytes:
        """See `CallTransport.request`."""
        waiting = self._waiting
        if self._closed:
            raise Unavailable("the connection is closed")
        if len(waiting) >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} calls of this process wait for replies already")
        future: asyncio.Future[bytes | CallError] = self._loop.create_future()
        # Outcomes are results, not exceptions, of the future: an exception that nobody fetches any more (its task was
        # cancelled in the same turn of the loop) would be reported as lost.
        deadline = self._deadlines.add(timeout_s, lambda: _settle(future, no_answer(timeout_s)))
        self._number = number = self._number + 1
        waiting[number] = subject, future
        sent = False
        try:
            while (room := self._send(subject, payload, number)) is not None:
                await asyncio.wait((room, future), return_when=asyncio.FIRST_COMPLETED)
                if future.done():
                    break
                # Others may have been sent meanwhile.
                del waiting[number]
                self._number = number = self._number + 1
                waiting[number] = subject, future
            else:
                sent = True
            answer = await future
        except asyncio.CancelledError:
            if sent and farewell is not None:
                with suppress(CallError):  # who cannot be told will notice by the deadline
                    self._send(subject, farewell(f"{self.prefix}{number}"), 0)
            raise
        finally:
            waiting.pop(number, None)
            self._deadlines.discard(deadline)
        if isinstance(answer, CallError):
            raise answer
        return answer

    def deliver(self, number: int, answer: bytes | CallError) -> None:
        """Ends the waiting of the request of this number; ignores a late or second answer."""
        waiting = self._waiting.get(number)
        if waiting is not None:
            _settle(waiting[1], answer)

    def refuse_after(self, number: int, reason: str) -> None:
        """Ends the waiting of those sent after this one: they did not begin."""
        for later in tuple(self._waiting):
            if later > number:
                self.deliver(later, Unavailable(reason))

    def abandon(self, gone: Callable[[str], bool]) -> None:
        """See `CallTransport.abandon`."""
        for number, (subject, _) in tuple(self._waiting.items()):
            if gone(subject):
                self.deliver(number, HostLost("the agent's host was lost during the call, which may have begun"))

    def close(self, reason: str = "the connection was closed while the call was under way") -> None:
        """Takes no more; those that wait may have begun."""
        self._closed = True
        for number in tuple(self._waiting):
            self.deliver(number, CallCancelled(reason))


def _settle(future: asyncio.Future[bytes | CallError], outcome: bytes | CallError) -> None:
    if not future.done():
        future.set_result(outcome)


def no_answer(timeout_s: float) -> DeadlineExceeded:
    """The error for that."""
    return DeadlineExceeded(f"no answer within {timeout_s:.3g} s")
