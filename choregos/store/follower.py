"""Keeps a read model in step with a log: follows its tail, says how far it has come, and repairs it.

Invariants: everything up to `revision` has been applied, except records that cannot be: one such is reported and left
out, and harms nothing else. The revision never falls, unless the log was replaced or set back: then everything is read
anew aside, and the model changes from the old picture to the new one at once. A tail announces neither records whose
time to live is over nor tombstones that vanished while the reader was away; so hourly the model's keys are compared
with the log's, and what is gone is forgotten. Nothing that fails here, expected or not, ends the following.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Generic, Protocol, TypeVar

from choregos.foundation.backoff import RECONNECT, Backoff
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Expired, Temporary
from choregos.foundation.tasks import Tasks
from choregos.foundation.timeout import timeout
from choregos.store.port import Batch, Record, RecordLog

log = logging.getLogger(__name__)

C = TypeVar("C")

REPAIR_PERIOD_S = 3600.0
WAIT_TIMEOUT_S = 3.0

TRY_AGAIN = Backoff(initial_s=1.0, max_s=60.0)
"""After a failed repair, or an error that nobody foresaw."""

LOOKUPS_MAX = 100
"""Most subjects that a repair looks up at a time."""

REPORTED_MAX = 1_000
"""Unreadable subjects that are remembered as reported; more of them are only counted."""


class Model(Protocol[C]):
    """What a follower keeps in step. All methods are synchronous: no reader ever sees half a batch."""

    def apply(self, record: Record) -> C | None:
        """Takes one record, in sequence order; what changed by that, if anything did.

        Raises:
            Exception: it cannot be read; the model is as it was.
        """
        ...

    def announce(self, changes: Sequence[C]) -> None:
        """These changes have been applied. Not called until the model has been complete for the first time."""
        ...

    def loaded(self, revision: int) -> None:
        """The model is complete as of `revision`: for the first time, or anew from another log.

        Revisions handed out before mean nothing any more.
        """
        ...

    def held(self) -> Iterable[tuple[str, int]]:
        """(subject, sequence) of every record that the model holds."""
        ...


class Follower(Generic[C]):
    """Runs in the background from `open` to `close`.

    Attributes:
        skipped: how many records could not be applied.
        log_changes: how often everything was read anew, because the log was not the one read before.
    """

    def __init__(self, log: RecordLog, filters: Sequence[str], model: Model[C], clock: Clock) -> None:
        self._log = log
        self._filters = filters
        self._model = model
        self._clock = clock
        self._tasks = Tasks()
        self._loaded = asyncio.Event()
        self._revision = 0
        self._position = 0  # read up to here; ahead of the revision only while everything is read anew
        self._anew: list[Record] | None = None  # what has been read so far of a log that is not the one read before
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []  # heap
        self._ticket = count()
        self._reported: set[str] = set()
        self.skipped = 0
        self.log_changes = 0

    @property
    def revision(self) -> int:
        return self._revision

    async def open(self) -> None:
        """Starts following and returns when the model is complete; if it cannot be, all is as after `close`."""
        following = self._tasks.start(self._follow(), "follow")
        self._tasks.start(self._repair_regularly(), "repair")
        loaded = self._tasks.start(self._loaded.wait(), "wait until loaded")
        try:
            await asyncio.wait((following, loaded), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        except BaseException:
            await self.close()
            raise

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
            async with timeout(timeout_s):
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
                async with aclosing(self._log.tail(self._filters, after=self._position)) as batches:
                    async for batch in batches:
                        self._take(batch)
                        failures = 0
            except Expired as error:
                log.error("reading everything again: %s", error)
                self._position, self._anew = 0, []
            except Temporary as error:
                failures += 1
                log.warning("cannot follow the log: %s", error)
                await self._clock.sleep(RECONNECT.delay_s(failures, random.random()))
            except Exception:
                if not self._loaded.is_set():
                    raise  # whoever opens this hears of it
                failures += 1
                log.exception("following the log failed; it will be tried again")
                await self._clock.sleep(TRY_AGAIN.delay_s(failures, random.random()))

    def _take(self, batch: Batch) -> None:
        if self._anew is not None:
            self._anew.extend(batch.records)
            if batch.caught_up:
                self._begin_anew(self._anew, batch.sequence)
                self._anew = None
        else:
            self._apply(batch.records)
            self._revision = max(self._revision, batch.sequence)
            if batch.caught_up and not self._loaded.is_set():
                self._model.loaded(self._revision)
                self._loaded.set()
        self._position = max(self._position, batch.sequence)
        while self._waiters and self._waiters[0][0] <= self._revision:
            waiter = heapq.heappop(self._waiters)[2]
            if not waiter.done():
                waiter.set_result(None)

    def _apply(self, records: Iterable[Record]) -> None:
        changes = []
        for record in records:
            try:
                change = self._model.apply(record)
            except Exception as error:
                self._skip(record, error)
                continue
            if change is not None:
                changes.append(change)
        if changes and self._loaded.is_set():
            self._model.announce(changes)

    def _skip(self, record: Record, error: Exception) -> None:
        self.skipped += 1
        if record.subject not in self._reported and len(self._reported) < REPORTED_MAX:
            self._reported.add(record.subject)
            log.error("%s at %d cannot be read and is ignored: %r", record.subject, record.sequence, error)

    def _begin_anew(self, records: Sequence[Record], revision: int) -> None:
        """Changes the model to what another log says."""
        stored = {record.subject for record in records}
        self._revision = revision
        self.log_changes += 1
        self.forget([subject for subject, _ in self._model.held() if subject not in stored])
        self._apply(records)
        self._model.loaded(revision)
        self._loaded.set()

    def forget(self, subjects: Iterable[str]) -> None:
        """These have no record any more: they are treated as deleted."""
        self._apply([Record(subject, b"", self._revision, True, 0) for subject in subjects])

    async def _repair_regularly(self) -> None:
        failures = 0
        while True:
            await self._clock.sleep(TRY_AGAIN.delay_s(failures, random.random()) if failures else REPAIR_PERIOD_S)
            try:
                await self.repair()
                failures = 0
            except Temporary as error:
                failures += 1
                log.warning("cannot compare with the log, will try again: %s", error)
            except Exception:
                failures += 1
                log.exception("comparing with the log failed; it will be tried again")

    async def repair(self) -> None:
        """Forgets what the model holds and the log does not."""
        asked_at = self._revision
        stored: set[str] = set()
        for wanted in self._filters:
            stored |= await self._log.subjects(wanted)
        # What was written after the question was asked may be missing from the answer.
        missing = {
            subject: sequence
            for subject, sequence in self._model.held()
            if sequence <= asked_at and subject not in stored
        }
        gone = await self._without_record(list(missing))
        # Meanwhile the tail may have brought a newer record of some.
        forgotten = [
            subject for subject, sequence in self._model.held() if subject in gone and missing[subject] == sequence
        ]
        if forgotten:
            log.warning("%d records vanished unannounced, for example %s", len(forgotten), forgotten[0])
            self.forget(forgotten)

    async def _without_record(self, subjects: Sequence[str]) -> set[str]:
        """Those that really have none: a listing comes in pages, of a set that changes from one to the next."""
        gone: set[str] = set()
        for start in range(0, len(subjects), LOOKUPS_MAX):
            part = subjects[start : start + LOOKUPS_MAX]
            found = await asyncio.gather(*map(self._log.last, part))
            gone.update(subject for subject, last in zip(part, found, strict=True) if last is None)
        return gone
