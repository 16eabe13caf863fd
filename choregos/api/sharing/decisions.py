"""What is computed for a request: what its body says and makes of an object; the parts of a list, one by one.

The event loop answers nobody while it computes. So light work is done there in turns with everything else
(`light_work`); heavy work in a thread, which the loop interrupts whenever it likes, one piece at a time, the next from
the flow that was served longest ago. Nobody keeps the thread while he waits for anything else; and as requests wait for
it where they hold a seat (`fairness`), those with heavy work first need one of a few places, of which no flow has all.

What is heavy is told by the size of the body, and of what is stored. Invariant: what is decided here is pure: it reads
nothing that the loop changes, whatever time it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from choregos.api.sharing.fairness import Fairness, FairnessLimits
from choregos.api.sharing.light_work import LightWork
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Temporary

T = TypeVar("T")

LIGHT_BYTES_MAX = 4096
LIGHT_VALUES_MAX = 1000
LIGHT_TEXT_MAX = 16 * 1024
"""Of a body, and of the stored object that it changes (values, and characters of one text, such as who owns what): some
ten milliseconds of work."""


class Decisions:
    """Of all requests of a server.

    Args:
        limits: how many requests with heavy work have a place at a time, and how many may wait, how long.
    """

    def __init__(self, limits: FairnessLimits, clock: Clock) -> None:
        self.places = Fairness(limits)
        self.turns = Fairness(replace(limits, seats=1))
        self.light = LightWork(clock)
        self._thread = ThreadPoolExecutor(1, "decisions")
        self._closed = False

    def of(self, flow: str, body: bytes, present: Any = None) -> Decider:
        """For one request.

        Args:
            present: the object that it changes, if there is one.
        """
        return Decider(self, flow, heavy=len(body) > LIGHT_BYTES_MAX or _is_large(present))

    def close(self) -> None:
        """Heavy work is not begun any more; the process ends when the piece that is under way has ended."""
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Raises: Temporary, it is closed."""
        if self._closed:
            raise Temporary("the API server is ending")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class Decider:
    """Decides for one request."""

    def __init__(self, decisions: Decisions, flow: str, *, heavy: bool) -> None:
        self._decisions = decisions
        self._flow = flow
        self._heavy = heavy

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """To be had before a seat is taken.

        Raises:
            Refusal: 429, too many with heavy work wait already, or it has waited too long.
        """
        if not self._heavy:
            yield
            return
        async with self._decisions.places.seat(self._flow):
            yield

    def consider(self, present: Any) -> None:
        """The object that is changed may have grown since."""
        self._heavy = self._heavy or _is_large(present)

    async def decide(self, work: Callable[[], T]) -> T:
        """The result of `work`.

        Raises:
            Refusal: as `place`; and what `work` raises.
            Temporary: the server ends.
        """
        if not self._heavy:
            return await self._decisions.light.do(self._flow, work)
        async with self._decisions.turns.seat(self._flow):
            return await self._decisions.in_thread(work)


def _is_large(value: Any) -> bool:
    """Whether a JSON value holds more than light work allows; looks at no more of it than that."""
    count, containers = 1, [value]
    while containers and count <= LIGHT_VALUES_MAX:
        container = containers.pop()
        parts = container.values() if isinstance(container, dict) else container if isinstance(container, list) else ()
        count += len(parts)
        if count > LIGHT_VALUES_MAX:
            return True
        for part in parts:
            if isinstance(part, dict | list):
                containers.append(part)
            elif isinstance(part, str) and len(part) > LIGHT_TEXT_MAX:
                return True
    return False
