"""The recent changes of a read model, and those who watch them.

Invariant: history is one ring, shared by all watchers; a watcher is a position in it. So a watcher costs nothing per
change, none can hold up another, and one that falls behind further than the ring reaches gets `Expired` and lists
again, as does one that asks for a revision older than the ring.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice, takewhile
from typing import Generic, Protocol, Self, TypeVar

from choregos.foundation.errors import Expired


class ChangeType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Revised(Protocol):
    @property
    def revision(self) -> int: ...


C = TypeVar("C", bound=Revised)
K = TypeVar("K", bound=tuple[str, str])
T = TypeVar("T")


def rewound(items: dict[K, T], undone: Iterable[tuple[K, T | None]]) -> list[T]:
    """What there was before these changes, in the order of the keys.

    Args:
        items: what there is now; it is changed.
        undone: of each change, the latest first: what it changed, and what that was before; None if it was not there.
    """
    for key, previous in undone:
        if previous is None:
            items.pop(key, None)
        else:
            items[key] = previous
    return [items[key] for key in sorted(items)]


class ChangeRing(Generic[C]):
    """The last changes, oldest first.

    Args:
        revision: the model's revision when it was complete: what happened before is not known.
        size: of a change in bytes.
        bytes_max: of all that are kept; the last one is, however large.
    """

    def __init__(
        self, revision: int, changes_max: int, *, size: Callable[[C], int] = lambda _: 0, bytes_max: int = 0
    ) -> None:
        self._changes: deque[C] = deque()
        self._changes_max = changes_max
        self._size = size
        self._bytes_max = bytes_max
        self._bytes = 0
        self._dropped = 0  # changes that have left the ring; its first one has this position
        self._known_after = revision
        self._watchers: set[Watch[C]] = set()

    def publish(self, changes: Sequence[C]) -> None:
        self._changes.extend(changes)
        self._bytes += sum(map(self._size, changes))
        while len(self._changes) > self._changes_max or (self._bytes > self._bytes_max and len(self._changes) > 1):
            oldest = self._changes.popleft()
            self._bytes -= self._size(oldest)
            self._known_after = oldest.revision
            self._dropped += 1
        for watcher in self._watchers:
            watcher.wake()

    def end_watches(self) -> None:
        """Another ring takes this one's place: every watch of this one gets `Expired` when it reads on."""
        self._dropped += len(self._changes) + 1
        self._changes.clear()
        for watcher in self._watchers:
            watcher.wake()

    def position_after(self, revision: int) -> int:
        """Where a watcher begins that has seen everything up to `revision`.

        Raises:
            Expired: changes after `revision` have left the ring.
        """
        return self.end - sum(1 for _ in self.back_to(revision))

    def back_to(self, revision: int) -> Iterator[C]:
        """The changes after `revision`, the latest first.

        Raises:
            Expired: changes after `revision` have left the ring.
        """
        if revision < self._known_after:
            raise Expired(f"revision {revision} is too old; changes are known after {self._known_after}")
        return takewhile(lambda change: change.revision > revision, reversed(self._changes))

    @property
    def end(self) -> int:
        return self._dropped + len(self._changes)

    def read(self, position: int, limit: int) -> list[C]:
        """Up to `limit` changes from `position` on.

        Raises:
            Expired: the watcher was too slow, or the ring is out of use.
        """
        start = position - self._dropped
        if start < 0:
            raise Expired("this watch fell too far behind, or what it watched was read anew: list again")
        if start > len(self._changes) // 2:
            # islice walks from the left; near the right end it is cheaper to walk back.
            tail = list(islice(reversed(self._changes), len(self._changes) - start))
            tail.reverse()
            return tail[:limit]
        return list(islice(self._changes, start, start + limit))

    def add(self, watcher: Watch[C]) -> None:
        self._watchers.add(watcher)

    def remove(self, watcher: Watch[C]) -> None:
        self._watchers.discard(watcher)


READ_LIMIT = 500
"""Changes that one watcher takes at a time, before others have a turn."""


class Watch(Generic[C]):
    """The changes that `wanted` accepts, from one revision on, taken by `ready`; end it with `aclose`.

    Args:
        since: deliver changes after this revision; it must not be ahead of the model.
        current: the model's revision.
    """

    def __init__(
        self, ring: ChangeRing[C], since: int, current: Callable[[], int], wanted: Callable[[C], bool]
    ) -> None:
        self._ring = ring
        self._current = current
        self._wanted = wanted
        self._position = ring.position_after(since)
        self._woken = asyncio.Event()
        self._closed = False
        self._revision = since
        ring.add(self)

    @property
    def revision(self) -> int:
        """Everything wanted up to here has been handed out: what a bookmark may say."""
        if self._position == self._ring.end:
            self._revision = max(self._revision, self._current())
        return self._revision

    def wake(self) -> None:
        """Ends a wait, whether there is something new or not."""
        self._woken.set()

    async def ready(self) -> Sequence[C]:
        """Waits for changes, or to be woken, and takes what is there; perhaps nothing, and nothing once it is closed.

        Raises:
            Expired: it was too slow, or what it watches was read anew.
        """
        self._woken.clear()
        if self._position == self._ring.end and not self._closed:
            await self._woken.wait()
        if self._closed:
            return ()
        changes = self._ring.read(self._position, READ_LIMIT)
        self._position += len(changes)
        if changes:
            # Changes of one batch may share a revision, so it is complete only before the next greater one.
            self._revision = max(self._revision, changes[-1].revision - 1)
        return [change for change in changes if self._wanted(change)]

    async def aclose(self) -> None:
        """Also ends a wait that is under way."""
        self._closed = True
        self._ring.remove(self)
        self._woken.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
