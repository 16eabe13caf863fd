"""Leadership and its terms: what the fleet's and a region's controllers have in common.

A `Leader` stands for election; each time it is elected it makes a `Term`, which runs until leadership ends or a write
is refused because another leads. Invariant: what a term has made ends with it, and nothing is carried to the next.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from typing import Self

from choregos.control.loop import Controller, LoopSettings, Reconciler
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Temporary
from choregos.foundation.tasks import Tasks
from choregos.store.leases.election import LeaderElection
from choregos.store.port import Fence

log = logging.getLogger(__name__)

ONE_AT_A_TIME = LoopSettings()


class Term(ABC):
    """The reconcilers of one term of leadership; an async context manager: inside it they run.

    Attributes:
        deposed: set when a write was refused because another leads.
    """

    def __init__(self, clock: Clock) -> None:
        self.deposed = asyncio.Event()
        self._clock = clock
        self._stack = AsyncExitStack()

    def _controller(self, reconciler: Reconciler, settings: LoopSettings = ONE_AT_A_TIME) -> Controller:
        return Controller(reconciler, self._clock, settings, on_deposed=self.deposed.set)

    @abstractmethod
    async def _open(self, stack: AsyncExitStack) -> None:
        """Starts everything; `stack` ends it, the last first."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class Leader(ABC):
    """Leads whenever it is elected; an async context manager.

    Leaving it ends the term, if there is one, and gives the lease back.
    """

    def __init__(self, name: str, election: LeaderElection) -> None:
        self._name = name
        self._election = election
        self._tasks = Tasks()

    @abstractmethod
    async def _begin(self, fence: Fence) -> Term:
        """A new term, not yet open.

        Raises:
            Temporary: this is no time to lead.
        """

    async def __aenter__(self) -> Self:
        self._tasks.start(self._election.run(self._lead), self._name)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    async def _lead(self, fence: Fence) -> None:
        """One term; cancelled when leadership ends."""
        try:
            term = await self._begin(fence)
        except Temporary as error:
            log.warning("%s cannot lead: %s", self._name, error)
        else:
            async with term:
                await term.deposed.wait()
        self._election.resign()
