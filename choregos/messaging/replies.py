"""Replies to many requests over one subscription: `<prefix>.<number>`, matched by a dictionary of futures.

Both backends use it. No task per request, no timer per request: a future, an entry of the wheel, a dictionary entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from choregos.foundation.errors import CallCancelled, CallError, DeadlineExceeded, Overloaded, Unavailable
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.transport import Farewell

WAITING_MAX = 65_536
"""Requests of one process that may wait for replies at once."""

Publish = Callable[[str, bytes, str], Awaitable[None]]
"""Sends subject, payload, reply subject."""


class Replies:
    """The requests of one connection that wait.

    Invariant: a request is in `_waiting` exactly as long as its task is in `ask`.
    """

    def __init__(self, prefix: str, publish: Publish, deadlines: Deadlines) -> None:
        self._prefix = prefix + "."
        self._publish = publish
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._waiting: dict[str, asyncio.Future[bytes | CallError]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, subject: str, payload: bytes, timeout_s: float, farewell: Farewell | None) -> bytes:
        """See `CallTransport.request`."""
        if self._closed:
            raise Unavailable("the connection is closed")
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} calls of this process wait for replies already")
        self._number += 1
        reply = self._prefix + str(self._number)
        waiting = self._waiting
        future: asyncio.Future[bytes | CallError] = self._loop.create_future()
        waiting[reply] = future
        # Outcomes are results, not exceptions, of the future: an exception that nobody fetches any more (its task was
        # cancelled in the same turn of the loop) would be reported as lost.
        deadline = self._deadlines.add(timeout_s, lambda: self.deliver(reply, _no_answer(timeout_s)))
        try:
            await self._publish(subject, payload, reply)
            answer = await future
        except asyncio.CancelledError:
            if farewell is not None:
                await self._publish(subject, farewell(reply), "")
            raise
        finally:
            waiting.pop(reply, None)
            self._deadlines.discard(deadline)
        if isinstance(answer, CallError):
            raise answer
        return answer

    def deliver(self, reply: str, answer: bytes | CallError) -> None:
        """Ends the waiting of the request that had this reply subject; ignores a late or second answer."""
        future = self._waiting.get(reply)
        if future is not None and not future.done():
            future.set_result(answer)

    def close(self) -> None:
        self._closed = True
        for reply in tuple(self._waiting):
            self.deliver(reply, CallCancelled("the connection was closed while the call was under way"))


def _no_answer(timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"no answer within {timeout_s:.3g} s")
