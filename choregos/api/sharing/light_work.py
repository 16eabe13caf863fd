"""Short work in the event loop, no more of it than of everything else, however much is asked for.

Between two looks at the network the loop runs whatever can go on: dozens of requests that each compute for milliseconds
would keep all others waiting in every one of the fifteen rounds that a read takes. So there is an account: time in
which something else ran, or nothing, is put in, and work takes out what it took. While nothing is in it, work waits.

Invariant: work that waits is done in the order in which it came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from choregos.foundation.clock import Clock

T = TypeVar("T")

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
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()

    async def do(self, work: Callable[[], T]) -> T:
        """The result of `work`, at once or in its turn."""
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
        self._waiting.append((work, result))
        return await result

    def _do_next(self) -> None:
        """What can be done in this round."""
        self._put_in(self._clock.monotonic() - self._ended_s + ROUND_S)
        while self._waiting and self._saved_s > 0:
            work, result = self._waiting.popleft()
            if result.done():
                continue  # nobody waits for it any more
            try:
                outcome = work()
            except Exception as error:
                result.set_exception(error)
            else:
                result.set_result(outcome)
            self._take_out()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._do_next)

    def _put_in(self, seconds: float) -> None:
        self._saved_s = min(SAVED_S_MAX, self._saved_s + seconds)
        self._ended_s = self._clock.monotonic()

    def _take_out(self) -> None:
        now_s = self._clock.monotonic()
        self._saved_s -= now_s - self._ended_s
        self._ended_s = now_s
