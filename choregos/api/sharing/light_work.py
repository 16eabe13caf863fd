"""Short work in the event loop, no more of it than of everything else, however much is asked for.

Between two looks at the network the loop runs whatever can go on: dozens of requests that each compute for milliseconds
would keep all others waiting in every one of the fifteen rounds that a read takes. So there is an account: time in
which something else ran, or nothing, is put in, and work takes out what it took. While nothing is in it, work waits.

Invariants: of the work that waits, flows have a piece done in turns, each in the order in which it came; whatever
becomes of one piece, the next is done.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, TypeVar

from choregos.foundation.clock import Clock

T = TypeVar("T")
_Piece = tuple[Callable[[], Any], asyncio.Future[Any]]

ROUND_S = 0.0003
"""What each round of the loop puts in besides: one in which nothing else is to be done takes hardly any time."""

SAVED_S_MAX = 0.005
"""The most that can be in the account: so long, and for one piece of work longer, the loop may be held up."""


class LightWork:
    """Of one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._saved_s = SAVED_S_MAX
        self._ended_s = clock.monotonic()  # the last piece of work
        self._waiting: OrderedDict[str, deque[_Piece]] = OrderedDict()  # by flow; the first is next

    async def do(self, flow: str, work: Callable[[], T]) -> T:
        """The result of `work`, at once or in its turn.

        Args:
            flow: see `fairness`.
        """
        self._put_in(self._clock.monotonic() - self._ended_s)
        if self._saved_s > 0 and not self._waiting:
            try:
                return work()
            finally:
                self._take_out()
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._do_next)
        self._waiting.setdefault(flow, deque()).append((work, result))
        return await result

    def _do_next(self) -> None:
        """What can be done in this round."""
        self._put_in(self._clock.monotonic() - self._ended_s + ROUND_S)
        try:
            while self._waiting and self._saved_s > 0:
                _do(*self._next())
                self._take_out()
        finally:
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._do_next)

    def _next(self) -> _Piece:
        flow, pieces = self._waiting.popitem(last=False)
        piece = pieces.popleft()
        if pieces:
            self._waiting[flow] = pieces
        return piece

    def _put_in(self, seconds: float) -> None:
        self._saved_s = min(SAVED_S_MAX, self._saved_s + seconds)
        self._ended_s = self._clock.monotonic()

    def _take_out(self) -> None:
        now_s = self._clock.monotonic()
        self._saved_s -= now_s - self._ended_s
        self._ended_s = now_s


def _do(work: Callable[[], Any], result: asyncio.Future[Any]) -> None:
    if result.done():
        return  # nobody waits for it any more
    try:
        result.set_result(work())
    except StopIteration as error:  # which no future takes
        result.set_exception(RuntimeError(f"work raised {error!r}"))
    except Exception as error:
        result.set_exception(error)
