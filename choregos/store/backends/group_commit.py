"""Writes of one leader that are under way together, stored as one batch.

To nats-server an atomic batch of two costs nearly what one of a hundred does, some twenty times a single write, as it
stages every batch in files of its own; and a write with a condition and a fence is a batch of two. So one batch is
under way at a time, and what comes meanwhile waits and goes together in the next.

Invariants: each write is answered for itself, and one that is refused refuses no other; two writes of a subject are
never in the same batch and go in the order in which they came; one whose caller has gone before its batch began is
left out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from choregos.foundation.errors import Conflict, Deposed, TooLarge
from choregos.foundation.tasks import Tasks
from choregos.store.port import BATCH_WRITES_MAX, Fence, Write

GROUP_BYTES_MAX = 4 * 1024 * 1024
"""Of the records of one batch, unless a single one has more."""

AppendBatch = Callable[[Sequence[Write], Fence], Awaitable[Sequence[int]]]


@dataclass(slots=True)
class _Waiting:
    write: Write
    fence: Fence
    sequence: asyncio.Future[int]


class GroupCommit:
    """
    Args:
        append_batch: stores a batch, all or nothing.
    """

    def __init__(self, append_batch: AppendBatch) -> None:
        self._append_batch = append_batch
        self._waiting: deque[_Waiting] = deque()
        self._tasks = Tasks()
        self._committing = False

    async def close(self) -> None:
        await self._tasks.close()
        for one in self._waiting:
            one.sequence.cancel()

    async def append(self, write: Write, fence: Fence) -> int:
        """The sequence of the record. Raises: as `RecordLog.append`."""
        one = _Waiting(write, fence, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        if not self._committing:
            self._committing = True
            self._tasks.start(self._commit_all(), "commit groups of writes")
        return await one.sequence

    async def _commit_all(self) -> None:
        try:
            while group := self._next_group():
                await self._commit(group)
        finally:
            self._committing = False

    def _next_group(self) -> list[_Waiting]:
        """As many as may go together, the first of all among them; empty if nobody waits."""
        group: list[_Waiting] = []
        subjects: set[str] = set()
        size = 0
        while self._waiting and len(group) < BATCH_WRITES_MAX:
            one = self._waiting[0]
            if not one.sequence.done():
                size += len(one.write.data)
                if group and (size > GROUP_BYTES_MAX or one.fence != group[0].fence or one.write.subject in subjects):
                    break
                subjects.add(one.write.subject)
                group.append(one)
            self._waiting.popleft()
        return group

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        """Stores a group, and answers those who wait: whatever happens, all of them."""
        try:
            sequences = await self._append_batch([one.write for one in group], group[0].fence)
            for one, sequence in zip(group, sequences, strict=True):
                if not one.sequence.done():
                    one.sequence.set_result(sequence)
        except Exception as error:
            if len(group) > 1 and isinstance(error, Conflict | TooLarge) and not isinstance(error, Deposed):
                # Nobody says whose fault it is; by halves it is found.
                half = len(group) // 2
                await self._commit(group[:half])
                await self._commit(group[half:])
            else:
                _refuse(group, error)
        finally:
            # Nothing is left to cancel, unless this was: then also what was meant to come after this half.
            for one in group:
                one.sequence.cancel()


def _refuse(group: Sequence[_Waiting], error: Exception) -> None:
    for one in group:
        if not one.sequence.done():
            one.sequence.set_exception(error)
