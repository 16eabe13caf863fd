"""How long an agent that is being stopped still has.

Invariant: it gets shorter, also while somebody waits within it, and never longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from choregos.foundation.timeout import timeout_at


class Grace:
    """Begins when it is made. For one waiter at a time."""

    __slots__ = ("_ends", "_least", "_limit", "_loop")

    def __init__(self, grace_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + grace_s
        self._least = 0.0
        self._limit: asyncio.Timeout | None = None  # while somebody waits

    def shorten(self, grace_s: float) -> None:
        """It ends `grace_s` seconds from now, unless it ends before that."""
        self._ends = min(self._ends, self._loop.time() + grace_s)
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(max(self._ends, self._least))

    async def allows(self, awaitable: Awaitable[object], least_s: float = 0.0) -> bool:
        """Waits for something that raises nothing; whether it came within the grace.

        Args:
            least_s: the least it is waited for, however little is left.
        """
        self._least = self._loop.time() + least_s
        try:
            async with timeout_at(max(self._ends, self._least)) as self._limit:
                await awaitable
        except TimeoutError:
            return False
        finally:
            self._limit = None
        return True
