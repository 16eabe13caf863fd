"""A work queue of keys: what waits to be reconciled, when, and what is in work.

Invariants: a key waits at most once however often it is added; it is never in work twice at a time (added while in
work, it waits until the work is done); after n failures in a row it waits the n-th delay of the back-off. The queue
is bounded by its keys, which name stored objects. It does not know what keys mean or how work is done.

After client-go's `workqueue` (https://pkg.go.dev/k8s.io/client-go/util/workqueue).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Hashable
from itertools import count
from typing import Generic, TypeVar

from choregos.foundation.backoff import RECONCILE, Backoff
from choregos.foundation.clock import Clock
from choregos.foundation.tasks import Tasks

K = TypeVar("K", bound=Hashable)

_STALE_MAX = 64
"""Superseded entries of the heap that are tolerated beyond the live ones before it is rebuilt."""


class WorkQueue(Generic[K]):
    """See the module. All methods but `get` return at once; single event loop, no threads."""

    def __init__(self, clock: Clock, tasks: Tasks, backoff: Backoff = RECONCILE) -> None:
        self._clock = clock
        self._tasks = tasks
        self._backoff = backoff
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()  # the keys in _ready
        self._working: set[K] = set()
        self._again: set[K] = set()  # subset of _working: added meanwhile
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []  # entries that differ from _due are stale
        self._ticket = count()  # breaks ties in the heap, whose keys need no order
        self._failures: dict[K, int] = {}
        self._timer: asyncio.Task[None] | None = None
        self._timer_at = 0.0

    def add(self, key: K) -> None:
        """Wants `key` reconciled as soon as a worker is free."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Wants `key` reconciled in `delay_s` seconds, or earlier if it was wanted earlier already."""
        if delay_s <= 0:
            self.add(key)
            return
        at = self._clock.monotonic() + delay_s
        if self._due.get(key, at + 1) <= at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, next(self._ticket), key))
        if len(self._heap) > 2 * len(self._due) + _STALE_MAX:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        self._arm()

    def postpone(self, key: K, delay_s: float) -> None:
        """Work on `key` failed: wants it again in `delay_s` seconds, also if it was added during that work.

        What it was added for is seen then; the failed work may itself have been the cause, and would be so for ever.
        """
        self._again.discard(key)
        self.add_after(key, delay_s)

    def retry(self, key: K) -> float:
        """Counts a failure of `key`, postpones it by the back-off, and returns that delay in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s = self._backoff.delay_s(failures)
        self.postpone(key, delay_s)
        return delay_s

    def forget(self, key: K) -> None:
        """`key` succeeded: its next failure is the first again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Waits for the next key and takes it into work; `done` must follow."""
        key = await self._ready.get()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The work on `key` has ended, well or not."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _arm(self) -> None:
        """Keeps exactly one timer, for the earliest delayed key."""
        if not self._heap:
            return
        at = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._tasks.start(self._release_at(at), "queue-timer")

    async def _release_at(self, at: float) -> None:
        await self._clock.sleep(max(0.0, at - self._clock.monotonic()))
        now = max(at, self._clock.monotonic())  # sums of floats may fall a hair short of the time slept for
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self.add(key)
        self._timer = None
        self._arm()
