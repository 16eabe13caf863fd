"""Keeps a read model in step with a log: follows its tail, says how far it has come, and repairs it.

Invariant: everything up to `revision` has been applied, and it never falls, unless the log itself was set back. A tail
announces neither records whose time to live is over nor tombstones that vanished while the reader was away; so hourly
the model's keys are compared with the log's, and what is gone is forgotten.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Protocol, TypeVar

from choregos.foundation.backoff import RECONNECT
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Expired, Temporary
from choregos.foundation.tasks import Tasks
from choregos.store.port import Batch, Record, RecordLog

log = logging.getLogger(__name__)

T = TypeVar("T")

REPAIR_PERIOD_S = 3600.0
WAIT_TIMEOUT_S = 3.0


def tell(listeners: Iterable[Callable[[T], None]], changes: T) -> None:
    """Hands `changes` to every listener; one that fails is logged and keeps neither the others nor the model back."""
    for listener in tuple(listeners):
        try:
            listener(changes)
        except Exception:
            log.exception("a listener for changes failed")


class Model(Protocol):
    """What a follower keeps in step. All methods are synchronous: no reader ever sees half a batch."""

    def apply(self, records: Sequence[Record], *, live: bool) -> None:
        """Takes records in sequence order; `live` once the model has been complete, so that changes are announced."""
        ...

    def loaded(self, revision: int) -> None:
        """The model is complete for the first time, as of `revision`."""
        ...

    def held(self) -> Iterable[tuple[str, int]]:
        """(subject, sequence) of every record that the model holds."""
        ...

    def forget(self, subjects: Sequence[str]) -> None:
        """These have no record any more: treat them as deleted."""
        ...


class Follower:
    """Runs in the background from `open` to `close`."""

    def __init__(self, log: RecordLog, filters: Sequence[str], model: Model, clock: Clock) -> None:
        self._log = log
        self._filters = filters
        self._model = model
        self._clock = clock
        self._tasks = Tasks()
        self._loaded = asyncio.Event()
        self._revision = 0
        self._replaced = False  # the log is not the one that was read before
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []  # heap
        self._ticket = count()

    @property
    def revision(self) -> int:
        return self._revision

    async def open(self) -> None:
        """Starts following and returns when the model is complete."""
        following = self._tasks.start(self._follow(), "follow")
        self._tasks.start(self._repair_regularly(), "repair")
        loaded = self._tasks.start(self._loaded.wait(), "wait until loaded")
        await asyncio.wait((following, loaded), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()

    async def close(self) -> None:
        await self._tasks.close()

    async def wait_for(self, revision: int, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Returns once everything up to `revision` has been applied.

        Raises:
            Temporary: that took longer than `timeout_s` seconds.
        """
        if revision <= self._revision:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (revision, next(self._ticket), waiter)
        heapq.heappush(self._waiters, entry)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError as error:
            raise Temporary(f"this replica is at revision {self._revision}, not yet at {revision}") from error
        finally:
            if not waiter.done() or waiter.cancelled():
                self._waiters.remove(entry)
                heapq.heapify(self._waiters)

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                async with aclosing(self._log.tail(self._filters, after=self._revision)) as batches:
                    async for batch in batches:
                        failures = 0
                        self._take(batch)
            except Expired as error:
                log.error("reading everything again: %s", error)
                self._revision = 0
                self._replaced = True
            except Temporary as error:
                failures += 1
                log.warning("cannot follow the log: %s", error)
                await self._clock.sleep(RECONNECT.delay_s(failures, random.random()))

    def _take(self, batch: Batch) -> None:
        live = self._loaded.is_set()
        if batch.records:
            self._model.apply(batch.records, live=live)
        self._revision = max(self._revision, batch.sequence)
        if batch.caught_up and not live:
            self._model.loaded(self._revision)
            self._loaded.set()
        if batch.caught_up and self._replaced:
            self._replaced = False
            self._tasks.start(self.repair(), "repair")
        while self._waiters and self._waiters[0][0] <= self._revision:
            waiter = heapq.heappop(self._waiters)[2]
            if not waiter.done():
                waiter.set_result(None)

    async def _repair_regularly(self) -> None:
        while True:
            await self._clock.sleep(REPAIR_PERIOD_S)
            try:
                await self.repair()
            except Temporary as error:
                log.warning("cannot compare with the log, will try again: %s", error)

    async def repair(self) -> None:
        """Forgets what the model holds and the log does not."""
        asked_at = self._revision
        stored: set[str] = set()
        for wanted in self._filters:
            stored |= await self._log.subjects(wanted)
        # What was written after the question was asked may be missing from the answer.
        gone = [subject for subject, sequence in self._model.held() if sequence <= asked_at and subject not in stored]
        if gone:
            log.warning("%d records vanished unannounced, for example %s", len(gone), gone[0])
            self._model.forget(gone)
