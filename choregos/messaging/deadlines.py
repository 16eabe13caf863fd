"""Many deadlines on one timer: a coarse timing wheel.

A call sets a deadline and almost always ends before it, so setting and dropping one must cost next to nothing:
`loop.call_later` pushes on a heap and leaves the cancelled handle there. Here a deadline is an entry of a bucket of
`TICK_S` seconds, and one timer of the loop watches the first bucket (Varghese and Lauck, "Hashed and Hierarchical
Timing Wheels", 1987, scheme 6 with a dictionary).

Invariant: an entry fires at most once, never early, and at most `TICK_S` late (and as late as the loop itself is).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

TICK_S = 0.01
_TICKS_PER_S = 1 / TICK_S

log = logging.getLogger(__name__)


class Deadline:
    """One entry; `at` is the loop's time when it is over, in seconds."""

    __slots__ = ("at", "expire", "tick")

    def __init__(self, at: float, expire: Callable[[], None]) -> None:
        self.at = at
        self.tick = int(at * _TICKS_PER_S) + 1
        self.expire = expire


class Deadlines:
    """The deadlines of one event loop; must be made inside it."""

    __slots__ = ("_armed_tick", "_buckets", "_loop", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buckets: dict[int, set[Deadline]] = {}
        # The tick the timer is set for: never later than the first bucket; infinite while there is no timer.
        self._armed_tick: float = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """The loop's time in seconds: the scale of `Deadline.at`."""
        return self._loop.time()

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def add(self, timeout_s: float, expire: Callable[[], None]) -> Deadline:
        """Calls `expire` in the loop `timeout_s` seconds from now, unless `discard` comes first."""
        deadline = Deadline(self._loop.time() + timeout_s, expire)
        tick = deadline.tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = set()
            if tick < self._armed_tick:
                self._arm(tick)
        bucket.add(deadline)
        return deadline

    def discard(self, deadline: Deadline) -> None:
        """Forgets the entry; does nothing if it has fired or was discarded before."""
        bucket = self._buckets.get(deadline.tick)
        if bucket is not None:
            bucket.discard(deadline)
            if not bucket:
                del self._buckets[deadline.tick]

    def close(self) -> None:
        """Forgets every entry without firing it."""
        self._buckets.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_tick = tick
        self._timer = self._loop.call_at(tick * TICK_S, self._turn)

    def _turn(self) -> None:
        self._timer, self._armed_tick = None, math.inf
        # The loop may run a timer early by its clock's resolution, hence the small allowance.
        now_tick = int(self._loop.time() * _TICKS_PER_S + 0.5)
        for tick in sorted(tick for tick in self._buckets if tick <= now_tick):
            for deadline in self._buckets.pop(tick):
                try:
                    deadline.expire()
                except Exception:
                    log.exception("a deadline's action failed")
        if self._buckets:
            self._arm(min(self._buckets))
