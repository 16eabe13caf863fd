"""Turns for a few at a time, fair between parties: whoever has thousands waiting makes only its own wait long.

Invariants: no more than so many have a turn at once; while some wait none is free; the parties that wait are served in
rotation, and those of one party in the order they came.
"""

from __future__ import annotations

import asyncio
from collections import deque


class FairTurns:
    """A semaphore with one queue for each party.

    Attributes:
        free: turns that nobody has.
    """

    def __init__(self, turns: int) -> None:
        self.free = turns
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by party, the one that is next first

    async def take(self, party: str) -> None:
        """Waits for a turn; `give_back` must follow."""
        if self.free:
            self.free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(party, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came at the same moment
                self.give_back()
            raise

    def give_back(self) -> None:
        """A turn has ended: the next in rotation gets it."""
        while self._waiting:
            party, turns = next(iter(self._waiting.items()))
            turn = turns.popleft()
            del self._waiting[party]
            if turns:
                self._waiting[party] = turns  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1
