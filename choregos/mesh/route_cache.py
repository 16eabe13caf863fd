"""Routes as a caller remembers them: per target the last resolution, for about a second.

Invariants: at most `TARGETS_MAX` targets; one resolution of a target at a time, however many calls wait for it; an
answer without candidates is never remembered, so an agent that has just become ready is found by the next call. A
route that is over its time but not old is still used once while it is being renewed: the caller need not wait for
it, and if it was wrong the call is refused (`Moved`, nobody listens) and asks for a fresh one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from choregos.foundation.errors import CallError, ChoregosError, Unavailable
from choregos.foundation.tasks import Tasks, logged
from choregos.foundation.timeout import timeout
from choregos.mesh.routes import Target
from choregos.wire.worker import Candidate, Resolved

TARGETS_MAX = 4096
STALE_S_MAX = 5.0
"""How long after its time a route is still used while it is renewed."""

Resolve = Callable[[Target], Awaitable[Resolved]]

log = logging.getLogger(__name__)


class RouteCache:
    """The routes of one process."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(on_failure=logged)
        # Target → (time when it must be renewed, candidates); the order is that of the last renewal.
        self._routes: dict[Target, tuple[float, tuple[Candidate, ...]]] = {}
        self._resolving: dict[Target, asyncio.Task[Resolved]] = {}

    def remembered(self, target: Target) -> tuple[Candidate, ...]:
        """The candidates if they are known, else nothing; starts to renew them when they are over their time."""
        route = self._routes.get(target)
        if route is None:
            return ()
        overdue_s = self._loop.time() - route[0]
        if overdue_s > 0.0:
            if overdue_s > STALE_S_MAX:
                del self._routes[target]
                return ()
            self._start(target)
        return route[1]

    async def resolve(self, target: Target, timeout_s: float) -> Resolved:
        """Asks the resolver, whatever is remembered.

        Raises:
            TimeoutError: it did not answer within `timeout_s` seconds.
            Unavailable: it failed.
        """
        task = self._start(target)
        async with timeout(timeout_s):
            try:
                # Shielded: others wait for the same resolution.
                return await asyncio.shield(task)
            except ChoregosError as error:
                if isinstance(error, CallError):
                    raise
                raise Unavailable(f"{target} could not be looked up: {error}") from error

    def forget(self, target: Target) -> None:
        self._routes.pop(target, None)

    def forget_hosts(self, hosts: Collection[str]) -> None:
        """Drops every candidate on these hosts."""
        for target, (renew_at, candidates) in tuple(self._routes.items()):
            left = tuple(candidate for candidate in candidates if candidate.host not in hosts)
            if len(left) < len(candidates):
                if left:
                    self._routes[target] = (renew_at, left)
                else:
                    del self._routes[target]

    async def close(self) -> None:
        await self._tasks.close()

    def _start(self, target: Target) -> asyncio.Task[Resolved]:
        task = self._resolving.get(target)
        if task is None:
            task = self._tasks.start(self._renew(target), f"resolve {target}")
            self._resolving[target] = task
        return task

    async def _renew(self, target: Target) -> Resolved:
        try:
            resolved = await self._resolve(target)
        finally:
            self._resolving.pop(target, None)
        self._routes.pop(target, None)
        if resolved.candidates:
            if len(self._routes) >= TARGETS_MAX:
                del self._routes[next(iter(self._routes))]
            self._routes[target] = (self._loop.time() + resolved.ttl_s, resolved.candidates)
        return resolved
