"""The part of a request that is computed: what its body says, whether that is right, who then owns what.

The event loop answers nobody while it computes. So light work is done there in turns with everything else
(`light_work`); heavy work in a thread, which the loop interrupts whenever it likes, one request at a time, the next
from the flow that was served longest ago. What is heavy is told by size before anything is done, and a request waits
for its turn with heavy work before it takes a seat (`fairness`), so nobody holds a seat meanwhile.

Invariant: what is decided here is pure: it reads nothing that the loop changes, whatever time it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from choregos.api.sharing.fairness import Fairness, FairnessLimits
from choregos.api.sharing.light_work import LightWork
from choregos.foundation.clock import Clock

T = TypeVar("T")

LIGHT_BYTES_MAX = 4096
LIGHT_VALUES_MAX = 1000
"""Of a body, and of the stored object that it changes: some ten milliseconds of work."""


class Decisions:
    """Of all requests of a server.

    Args:
        limits: how many requests with heavy work may wait, and how long; `seats` are how many are worked on at a time.
    """

    def __init__(self, limits: FairnessLimits, clock: Clock) -> None:
        self._heavy = Fairness(limits)
        self._light = LightWork(clock)
        self._threads = ThreadPoolExecutor(limits.seats, "decisions")

    def of(self, flow: str, body: bytes, present: Any = None) -> Decider:
        """For one request.

        Args:
            present: the object that it changes, if there is one.
        """
        return Decider(self, flow, heavy=len(body) > LIGHT_BYTES_MAX or _is_large(present))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def at_once(self, work: Callable[[], T]) -> T:
        return await self._light.do(work)

    @asynccontextmanager
    async def heavy_turn(self, flow: str) -> AsyncIterator[None]:
        async with self._heavy.seat(flow):
            yield

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class Decider:
    """Decides for one request."""

    def __init__(self, decisions: Decisions, flow: str, *, heavy: bool) -> None:
        self._decisions = decisions
        self._flow = flow
        self._heavy = heavy
        self._has_turn = False

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Nobody else does heavy work while the context lasts, if this one has heavy work to do.

        Raises:
            Refusal: 429, too many wait already, or it has waited too long.
        """
        if not self._heavy:
            yield
            return
        async with self._decisions.heavy_turn(self._flow):
            self._has_turn = True
            try:
                yield
            finally:
                self._has_turn = False

    async def decide(self, work: Callable[[], T]) -> T:
        """The result of `work`. Heavy work waits for a turn of its own, unless the request has one.

        Raises:
            Refusal: as `turn`; and what `work` raises.
        """
        if not self._heavy:
            return await self._decisions.at_once(work)
        if self._has_turn:
            return await self._decisions.in_thread(work)
        async with self._decisions.heavy_turn(self._flow):
            return await self._decisions.in_thread(work)


def _is_large(value: Any) -> bool:
    """Whether a JSON value holds more than `LIGHT_VALUES_MAX` others; looks at no more of them than that."""
    count, containers = 1, [value]
    while containers and count <= LIGHT_VALUES_MAX:
        container = containers.pop()
        if isinstance(container, dict | list):
            parts = container.values() if isinstance(container, dict) else container
            count += len(parts)
            containers.extend(parts if len(parts) <= LIGHT_VALUES_MAX else ())
    return count > LIGHT_VALUES_MAX
