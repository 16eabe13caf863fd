"""The record log in a dictionary: for simulations and unit tests, with the guarantees of the real one.

Invariant: `_records` is in sequence order, because every write takes its subject out and puts it in again at the end.
Nothing is durable, and nothing ever raises `Temporary`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from choregos.foundation.clock import Clock
from choregos.foundation.errors import Conflict, Deposed, Expired
from choregos.store.port import (
    BATCH_WRITES_MAX,
    RECORD_BYTES_MAX,
    Batch,
    Fence,
    Record,
    Write,
    check_batch,
    check_sizes,
)
from choregos.wire.subjects import matches


class MemoryLog:
    """A `RecordLog`; see the port for the meaning of its methods."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sequence = 0
        self._records: dict[str, Record] = {}
        self._expiries: dict[str, int] = {}  # subject -> wall_ms
        self._tails: set[asyncio.Event] = set()

    async def append(self, write: Write, *, fence: Fence | None = None) -> int:
        if fence is None or write.expected is None:
            self._check([write], fence)
            sequence = self._store(write)
        else:
            sequence = self._store_batch([write], fence)[0]
        self._wake()
        return sequence

    async def append_batch(self, writes: Sequence[Write], *, fence: Fence | None = None) -> Sequence[int]:
        check_batch(writes)
        sequences = self._store_batch(writes, fence)
        self._wake()
        return sequences

    def _store_batch(self, writes: Sequence[Write], fence: Fence | None) -> list[int]:
        self._check(writes, fence)
        if fence is not None:
            self._store(Write(fence.subject, b""))
        return [self._store(write) for write in writes]

    def _check(self, writes: Sequence[Write], fence: Fence | None) -> None:
        self._expire()
        check_sizes(writes, RECORD_BYTES_MAX)
        if fence is not None and self._last_sequence(fence.epoch_subject) != fence.epoch:
            raise Deposed(f"epoch {fence.epoch} of {fence.epoch_subject} is over")
        for write in writes:
            last = self._last_sequence(write.subject)
            if write.expected is not None and write.expected != last:
                raise Conflict(f"{write.subject} is at {last}, not at {write.expected}")

    def _last_sequence(self, subject: str) -> int:
        record = self._records.get(subject)
        return 0 if record is None else record.sequence

    def _store(self, write: Write) -> int:
        self._sequence += 1
        now_ms = self._clock.wall_ms()
        self._records.pop(write.subject, None)
        self._records[write.subject] = Record(write.subject, write.data, self._sequence, write.tombstone, now_ms)
        self._expiries.pop(write.subject, None)
        if write.ttl_s is not None:
            self._expiries[write.subject] = now_ms + write.ttl_s * 1000
        return self._sequence

    def _expire(self) -> None:
        if not self._expiries:
            return
        now_ms = self._clock.wall_ms()
        for subject in [subject for subject, expiry in self._expiries.items() if expiry <= now_ms]:
            del self._expiries[subject]
            del self._records[subject]

    def _wake(self) -> None:
        for event in self._tails:
            event.set()

    async def last(self, subject: str) -> Record | None:
        self._expire()
        return self._records.get(subject)

    async def newest(self) -> int:
        self._expire()
        return next((record.sequence for record in reversed(self._records.values())), 0)

    async def tail(self, subjects: Sequence[str] = (">",), *, after: int = 0) -> AsyncGenerator[Batch, None]:
        if after > self._sequence:
            raise Expired(f"the log ends at {self._sequence}, before {after}")
        changed = asyncio.Event()
        self._tails.add(changed)
        try:
            caught_up = False
            while True:
                changed.clear()
                self._expire()
                upto, records = self._sequence, self._after(after, subjects)
                for start in range(0, len(records), BATCH_WRITES_MAX):
                    part = records[start : start + BATCH_WRITES_MAX]
                    caught_up = start + len(part) == len(records)
                    yield Batch(part, caught_up, upto if caught_up else part[-1].sequence)
                if not caught_up:
                    caught_up = True
                    yield Batch((), True, upto)
                after = upto
                await changed.wait()
        finally:
            self._tails.discard(changed)

    def _after(self, sequence: int, subjects: Sequence[str]) -> list[Record]:
        found = []
        for record in reversed(self._records.values()):
            if record.sequence <= sequence:
                break
            if any(matches(wanted, record.subject) for wanted in subjects):
                found.append(record)
        found.reverse()
        return found

    async def subjects(self, filter: str = ">") -> frozenset[str]:
        self._expire()
        return frozenset(subject for subject in self._records if matches(filter, subject))
