"""A clock for simulations: time stands still until it is advanced, so a test of hours takes milliseconds.

Invariant: sleepers wake in the order of their times, and what they start in turn runs before time moves on.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

_TURNS = 20
"""Turns of the event loop after each wake-up: enough for a chain of tasks that hand on to one another."""


class SimClock:
    """A `choregos.foundation.clock.Clock` whose time only `advance` moves.

    Args:
        wall_ms: the wall clock at the start, milliseconds since the epoch; it moves with the monotonic one.
    """

    def __init__(self, wall_ms: int = 1_750_000_000_000) -> None:
        self._now = 0.0
        self._wall_ms = wall_ms
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self._now

    def wall_ms(self) -> int:
        return self._wall_ms + int(self._now * 1000)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Moves time on, waking every sleeper whose time has come at exactly that time."""
        end = self._now + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, wake = heapq.heappop(self._sleepers)
            if wake.done():
                continue
            self._now = max(self._now, at)
            wake.set_result(None)
            await self._settle()
        self._now = end
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
