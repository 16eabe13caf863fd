"""The port to storage: a log that keeps the last record of every subject.

Both planes are such logs. A JetStream stream with `max_msgs_per_subject=1` is one (`backends/jetstream.py`), a
dictionary with a counter is another (`backends/memory.py`); one contract suite runs over both
(`choregos.testing.record_log_contract`).

Guarantees every backend gives:

1. Sequences are positive, rise by at least one per record, and are shared by all subjects of a log, so that they
   order all changes; a sequence is never handed out twice.
2. A write whose `expected` is not the subject's last sequence changes nothing and raises `Conflict`.
3. A batch is all or nothing, with one exception: when a log of a single replica dies while it commits a batch, the
   first records of the batch may remain. No writer is told that such a batch was stored, and whoever writes batches
   must be able to go on from a part of one.
4. A write or batch whose fence is over changes nothing and raises `Deposed`.
5. `append` returns when the record is durable. If it raises `Temporary` the outcome is unknown: the caller reads
   `last` and compares.
6. `tail` delivers every record that is still the last of its subject, in sequence order, and survives reconnects
   without gaps or repeats. What was overwritten meanwhile may be skipped.
7. A record of up to `RECORD_BYTES_MAX` bytes is taken in every kind of write; a larger one is refused with `TooLarge`,
   which has no other effect.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from choregos.foundation.bus.address import MESSAGE_BYTES_MAX
from choregos.foundation.errors import TooLarge


@dataclass(frozen=True, slots=True)
class Write:
    """One record to append.

    Attributes:
        subject: see `choregos.wire.subjects`.
        data: the record; empty for a tombstone without a body.
        expected: last sequence of the subject for the write to succeed; 0: it has none; None: unconditional.
        tombstone: marks the record as a deletion; readers see it as such, `last` and `tail` still deliver it.
        ttl_s: whole seconds after which the record vanishes; None: never. A vanished record is not announced by `tail`.
    """

    subject: str
    data: bytes
    expected: int | None = None
    tombstone: bool = False
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof of leadership that travels with a write: refused once a newer epoch was written.

    Attributes:
        subject: the fence subject of the lease (`subjects.fence_subject`).
        epoch_subject: the subject whose last sequence must be `epoch`.
        epoch: sequence of the epoch record that this leader wrote.
    """

    subject: str
    epoch_subject: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record as read back.

    Attributes:
        sequence: its place in the log.
        wall_ms: when the log stored it, milliseconds since the epoch.
    """

    subject: str
    data: bytes
    sequence: int
    tombstone: bool
    wall_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in sequence order, as `tail` delivers them.

    Attributes:
        caught_up: nothing more was stored when the last of these was read. The first batch of an empty log is empty
            and caught up, so a reader always learns when its picture is complete.
        sequence: the reader has now seen everything up to here; at least the last record's sequence.
    """

    records: Sequence[Record]
    caught_up: bool
    sequence: int


BATCH_WRITES_MAX = 500
"""Most writes in one atomic batch (nats-server allows 1,000; one is the fence)."""


HEADERS_BYTES_MAX = 4_096
"""Room for what travels with a record: conditions, the epoch's subject, the batch's id."""

RECORD_BYTES_MAX = MESSAGE_BYTES_MAX - HEADERS_BYTES_MAX
"""Of one record: whatever kind of write, it fits into a message together with its headers."""


def check_sizes(writes: Sequence[Write], bytes_max: int) -> None:
    """Raises: TooLarge, one has more than `bytes_max` bytes."""
    size = max(len(write.data) for write in writes)
    if size > bytes_max:
        raise TooLarge(f"a record may have {bytes_max} bytes, this has {size}")


def check_batch(writes: Sequence[Write]) -> None:
    """Refuses what no backend can store atomically.

    Raises:
        ValueError: there are no writes, too many, or two for the same subject.
    """
    if not 1 <= len(writes) <= BATCH_WRITES_MAX:
        raise ValueError(f"a batch has 1 to {BATCH_WRITES_MAX} writes, not {len(writes)}")
    if len({write.subject for write in writes}) != len(writes):
        raise ValueError("a batch writes each subject once")


class RecordLog(Protocol):
    """See the module's guarantees. All methods raise `Temporary` while the log cannot be reached."""

    async def append(self, write: Write, *, fence: Fence | None = None) -> int:
        """Stores one record and returns its sequence.

        Raises:
            Conflict: `write.expected` is not the subject's last sequence.
            Deposed: the fence's epoch is over.
            TooLarge: the record has more than `RECORD_BYTES_MAX` bytes.
        """
        ...

    async def append_batch(self, writes: Sequence[Write], *, fence: Fence | None = None) -> Sequence[int]:
        """Stores 1 to `BATCH_WRITES_MAX` records of distinct subjects together; returns their sequences in order.

        Raises: as `append`; then none is stored.
        """
        ...

    async def last(self, subject: str) -> Record | None:
        """The subject's last record, read from the leader (never stale); None if it has none or it has expired."""
        ...

    async def newest(self) -> int:
        """Sequence of the newest record there is, read from the leader (never stale); 0 if there is none.

        A reader of all subjects that has come this far knows everything that was acknowledged before this was called.
        """
        ...

    def tail(self, subjects: Sequence[str] = (">",), *, after: int = 0) -> AsyncGenerator[Batch, None]:
        """Follows the log from the first record after sequence `after`, for ever, until the iterator is closed.

        Args:
            subjects: NATS filters (`*` one token, `>` the rest), disjoint.

        Raises:
            Expired: the log has not come as far as `after` (any more): it was replaced or restored; begin at 0.
        """
        ...

    async def subjects(self, filter: str = ">") -> frozenset[str]:
        """Every subject that has a record now (tombstones included): what a cache is compared with after a long gap."""
        ...
