"""Who leads, who is alive: leases in the same log that they protect.

Leadership alone fences nothing: a leader that was paused does not know that its lease is over. So taking a lease
writes an epoch record in the same atomic batch, and everything the leader writes carries the epoch (`port.Fence`);
the log refuses it once there is a newer one.

Invariants: an epoch is written on acquisition only. A leader counts its lease from the moment it *sent* the last
renewal that succeeded, an observer from the moment it *saw* the record, both on their own monotonic clocks; so the
leader has stopped before anybody may take over, whatever their wall clocks say.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from choregos.foundation.backoff import Backoff
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Conflict, Temporary
from choregos.foundation.tasks import Tasks
from choregos.foundation.timeout import timeout
from choregos.store.leases.record import encode, lease_of
from choregos.store.port import Fence, RecordLog, Write
from choregos.wire import subjects
from choregos.wire.instances import VERSION, LeaseRecord

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3
STOP_SHARE = 0.2
"""The last part of an unrenewed lease, in which a leader stops instead of hoping."""

LOOK_PERIOD_S = 1.0
"""How often a candidate looks whether the lease is free."""

RELEASED_TTL_S = 3600
RETRY = Backoff(initial_s=0.2, max_s=2.0)


@dataclass(frozen=True, slots=True)
class _Held:
    """A lease as its holder knows it.

    Attributes:
        sequence: of the last renewal.
        until: monotonic time when it is over unless renewed.
    """

    record: LeaseRecord
    sequence: int
    until: float


class LeaderElection:
    """Takes part in the election of one leader, for as long as `run` runs.

    Args:
        scope, name: of the lease: a region and `region`, or `fleet` and `fleet`.
        holder: identity of this candidate. No two candidates that run at the same time may share one, and whoever
            makes them must see to that: a candidate takes a lease that its own identity holds at once. So one that
            lasts longer than a process lets the next process lead without waiting.
        duration_s: how long leadership outlives its leader.
    """

    def __init__(
        self, log: RecordLog, scope: str, name: str, holder: str, clock: Clock, *, duration_s: float = 15.0
    ) -> None:
        self._log = log
        self._scope = scope
        self._name = name
        self._holder = holder
        self._duration_s = duration_s
        self._clock = clock
        self._subject = subjects.lease_subject(scope, name)
        self._held: _Held | None = None
        self._resigned = asyncio.Event()
        # What was last seen of another holder's lease, and since when it has not changed.
        self._seen_sequence = -1
        self._seen_at = 0.0

    @property
    def leads(self) -> bool:
        """Whether this candidate leads now; only a fenced write proves it."""
        return self._held is not None and self._clock.monotonic() < self._held.until

    def resign(self) -> None:
        """Gives leadership up; for a leader that was told `Deposed`, or whose work has failed."""
        self._resigned.set()

    async def run(self, on_started: Callable[[Fence], Awaitable[None]]) -> None:
        """Stands for election until cancelled, whatever fails.

        Args:
            on_started: called with the fence for all writes whenever this candidate becomes leader. It may return at
                once or do the leader's work itself: while it runs the lease is renewed, and it is cancelled when
                leadership ends. If it raises, this candidate resigns.
        """
        failures = 0
        while True:
            try:
                fence = await self._acquire()
                if fence is None:
                    await self._clock.sleep(min(LOOK_PERIOD_S, self._duration_s / RENEWALS_PER_LEASE))
                    continue
                elected_at = self._clock.monotonic()
                await self._lead(fence, on_started)
                # One whose work fails at once must not win election after election without a pause.
                failures = 0 if self._clock.monotonic() - elected_at > self._duration_s else failures + 1
            except (Temporary, Conflict) as error:
                log.info("election of %s/%s: %s", self._scope, self._name, error)
                failures += 1
            except Exception:
                log.exception("election of %s/%s failed; standing again", self._scope, self._name)
                failures += 1
            await self._clock.sleep(RETRY.delay_s(failures, random.random()))

    async def _acquire(self) -> Fence | None:
        """Takes the lease if nobody holds it; None if somebody does."""
        last = await self._log.last(self._subject)
        previous = lease_of(last)
        if last is not None and previous is not None and not self._is_over(previous, last.sequence):
            return None
        transitions = 1 if previous is None else previous.transitions + 1
        record = LeaseRecord(VERSION, self._holder, self._duration_s, 1, transitions)
        epoch_subject = subjects.epoch_subject(self._scope, self._name)
        sent_at = self._clock.monotonic()
        sequences = await self._log.append_batch(
            [
                Write(self._subject, encode(record), expected=0 if last is None else last.sequence),
                Write(epoch_subject, self._holder.encode()),
            ]
        )
        self._held = _Held(record, sequences[0], sent_at + self._duration_s)
        return Fence(subjects.fence_subject(self._scope, self._name), epoch_subject, sequences[1])

    def _is_over(self, lease: LeaseRecord, sequence: int) -> bool:
        if lease.holder == self._holder:
            return True  # from a batch whose answer was lost, or from before this process started
        if sequence != self._seen_sequence:
            self._seen_sequence, self._seen_at = sequence, self._clock.monotonic()
        return self._clock.monotonic() - self._seen_at >= lease.duration_s

    async def _lead(self, fence: Fence, on_started: Callable[[Fence], Awaitable[None]]) -> None:
        log.info("%s leads %s/%s, epoch %d", self._holder, self._scope, self._name, fence.epoch)
        self._resigned.clear()
        try:
            async with Tasks(self._failed) as tasks:
                tasks.start(_awaited(on_started, fence), f"lead {self._scope}/{self._name}")
                resigned = tasks.start(self._resigned.wait(), "resignation")
                renewing = tasks.start(self._renew_while_possible(), "renewal")
                await asyncio.wait((resigned, renewing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            log.info("%s leads %s/%s no more", self._holder, self._scope, self._name)
            await self._release()

    def _failed(self, task: str, error: BaseException) -> None:
        """A leader whose work or renewal has failed makes room, and stands again."""
        log.error("%s resigns: %s failed", self._holder, task, exc_info=error)
        self.resign()

    async def _renew_while_possible(self) -> None:
        """Returns when the lease is lost or about to be."""
        while self._held is not None:
            remaining_s = self._held.until - self._clock.monotonic() - STOP_SHARE * self._duration_s
            if remaining_s <= 0:
                log.warning("cannot renew %s/%s in time", self._scope, self._name)
                return
            try:
                async with timeout(remaining_s):
                    await self._renew(self._held)
            except TimeoutError:
                continue
            except Temporary as error:
                log.warning("cannot renew %s/%s: %s", self._scope, self._name, error)
                await self._clock.sleep(min(RETRY.delay_s(1, random.random()), remaining_s))
                continue
            except Conflict:
                log.warning("lost %s/%s to another holder", self._scope, self._name)
                self._held = None
                return
            await self._clock.sleep(self._duration_s / RENEWALS_PER_LEASE)

    async def _renew(self, held: _Held) -> None:
        record = msgspec.structs.replace(held.record, renewals=held.record.renewals + 1)
        sent_at = self._clock.monotonic()
        try:
            sequence = await self._log.append(Write(self._subject, encode(record), expected=held.sequence))
        except Conflict:
            # An earlier renewal may have been stored although its answer was lost.
            last = await self._log.last(self._subject)
            lease = lease_of(last)
            if last is None or lease is None or lease.holder != self._holder:
                raise
            self._held = _Held(lease, last.sequence, held.until)
            return await self._renew(self._held)
        self._held = _Held(record, sequence, sent_at + self._duration_s)
        return None

    async def _release(self) -> None:
        """Lets the others take over at once; if that fails they wait for the lease to be over."""
        held, self._held = self._held, None
        if held is None or self._clock.monotonic() >= held.until:
            return
        try:
            async with timeout(STOP_SHARE * self._duration_s):
                await self._log.append(
                    Write(self._subject, b"", expected=held.sequence, tombstone=True, ttl_s=RELEASED_TTL_S)
                )
        except (Temporary, Conflict, TimeoutError) as error:
            log.info("cannot release %s/%s: %r", self._scope, self._name, error)
        except Exception:  # must not take the place of a cancellation
            log.exception("cannot release %s/%s", self._scope, self._name)


async def _awaited(on_started: Callable[[Fence], Awaitable[None]], fence: Fence) -> None:
    await on_started(fence)
