"""What every `RecordLog` must do, as tests. A backend's test module subclasses `RecordLogContract` and offers a
fixture `log`: a fresh, empty one that holds the subjects `SUBJECTS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import pairwise

import pytest

from choregos.foundation.errors import Conflict, Deposed, Expired, TooLarge
from choregos.foundation.tasks import Tasks
from choregos.foundation.timeout import timeout
from choregos.store.port import BATCH_WRITES_MAX, RECORD_BYTES_MAX, Batch, Fence, Record, RecordLog, Write

SUBJECTS = ("a.>", "b.>", "al.>")
PATIENCE_S = 20.0

FENCE_SUBJECT = "al.test.fence"
EPOCH_SUBJECT = "al.test.epoch"


async def new_epoch(log: RecordLog) -> Fence:
    """Takes leadership: every fence handed out before is over."""
    return Fence(FENCE_SUBJECT, EPOCH_SUBJECT, await log.append(Write(EPOCH_SUBJECT, b"")))


async def read(log: RecordLog, subjects: Sequence[str] = (">",), *, after: int = 0) -> list[Record]:
    """What a tail delivers until it has caught up."""
    return (await read_batch(log, subjects, after=after))[0]


async def read_batch(log: RecordLog, subjects: Sequence[str] = (">",), *, after: int = 0) -> tuple[list[Record], int]:
    records: list[Record] = []
    async with timeout(PATIENCE_S), aclosing(log.tail(subjects, after=after)) as batches:
        async for batch in batches:
            records += batch.records
            if batch.caught_up:
                return records, batch.sequence
    raise AssertionError("a tail ended")


def states(records: Sequence[Record]) -> list[tuple[str, bytes, int, bool]]:
    return [(record.subject, record.data, record.sequence, record.tombstone) for record in records]


async def _append_group(log: RecordLog, present: int, data: bytes, fence: Fence) -> None:
    """Fenced writes at once; the first, which is alone, lets the others come together."""
    writes = [Write(f"a.{number}", data, expected=0) for number in range(6)]
    writes.append(Write("a.present", data, expected=present, tombstone=True, ttl_s=TTL_S))
    results = await asyncio.gather(*(log.append(write, fence=fence) for write in writes), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


TTL_S = 7 * 24 * 3600

WAYS: dict[str, Callable[[RecordLog, int, bytes, Fence], Awaitable[object]]] = {
    "unconditional": lambda log, _, data, __: log.append(Write("a.1", data)),
    "create": lambda log, _, data, __: log.append(Write("a.1", data, expected=0)),
    "update": lambda log, present, data, __: log.append(Write("a.present", data, expected=present)),
    "delete": lambda log, present, data, __: log.append(
        Write("a.present", data, expected=present, tombstone=True, ttl_s=TTL_S)
    ),
    "batch": lambda log, present, data, _: log.append_batch(
        [Write("a.0", b"", expected=0), Write("a.1", data), Write("a.present", data, present, True, TTL_S)]
    ),
    "fenced, unconditional": lambda log, _, data, fence: log.append(
        Write("a.1", data, tombstone=True, ttl_s=TTL_S), fence=fence
    ),
    "fenced": lambda log, present, data, fence: log.append(Write("a.present", data, present, True, TTL_S), fence=fence),
    "fenced group": _append_group,
    "fenced batch": lambda log, present, data, fence: log.append_batch(
        [Write("a.0", b"", expected=0), Write("a.present", data, present, True, TTL_S)], fence=fence
    ),
}
"""Kinds of write by name; each is given the sequence of `a.present`, and what to store."""


class RecordLogContract:
    async def test_sequences_rise_over_all_subjects(self, log: RecordLog) -> None:
        first = await log.append(Write("a.1", b"x"))
        second = await log.append(Write("b.1", b"y"))
        assert 0 < first < second

    async def test_the_newest_record_is_that_of_any_subject_and_not_one_that_vanished(self, log: RecordLog) -> None:
        assert await log.newest() == 0
        first = await log.append(Write("a.1", b"x"))
        assert await log.newest() == first
        second = await log.append(Write("b.1", b"y", tombstone=True))
        assert await log.newest() == second
        _, seen = await read_batch(log)
        assert seen >= second
        await log.append(Write("a.1", b"z", expected=first))
        with pytest.raises(Conflict):
            await log.append(Write("b.1", b"z", expected=first))
        assert second < await log.newest() <= (await read_batch(log))[1]

    async def test_last_is_the_newest_record_of_its_subject(self, log: RecordLog) -> None:
        await log.append(Write("a.1", b"old"))
        sequence = await log.append(Write("a.1", b"new"))
        record = await log.last("a.1")
        assert record is not None
        assert (record.subject, record.data, record.sequence, record.tombstone) == ("a.1", b"new", sequence, False)
        assert await log.last("a.2") is None

    async def test_an_expected_sequence_must_be_the_last(self, log: RecordLog) -> None:
        first = await log.append(Write("a.1", b"1", expected=0))
        with pytest.raises(Conflict):
            await log.append(Write("a.1", b"again", expected=0))
        second = await log.append(Write("a.1", b"2", expected=first))
        with pytest.raises(Conflict):
            await log.append(Write("a.1", b"late", expected=first))
        record = await log.last("a.1")
        assert record is not None
        assert (record.data, record.sequence) == (b"2", second)

    async def test_a_tombstone_is_a_record(self, log: RecordLog) -> None:
        first = await log.append(Write("a.1", b"1"))
        second = await log.append(Write("a.1", b"last words", expected=first, tombstone=True))
        record = await log.last("a.1")
        assert record is not None
        assert (record.tombstone, record.data, record.sequence) == (True, b"last words", second)
        with pytest.raises(Conflict):
            await log.append(Write("a.1", b"2", expected=0))
        await log.append(Write("a.1", b"2", expected=second))
        assert [record.tombstone for record in await read(log)] == [False]

    async def test_a_record_vanishes_after_its_time(self, log: RecordLog) -> None:
        await log.append(Write("a.1", b"short", tombstone=True, ttl_s=1))
        await log.append(Write("a.2", b"long"))
        async with timeout(PATIENCE_S):
            while await log.last("a.1") is not None:  # noqa: ASYNC110, nobody tells when a record vanishes
                await asyncio.sleep(0.05)
        assert await log.subjects() == {"a.2"}
        await log.append(Write("a.1", b"new", expected=0))

    async def test_a_batch_is_stored_in_order(self, log: RecordLog) -> None:
        await log.append(Write("a.9", b""))
        sequences = await log.append_batch([Write(f"a.{number}", str(number).encode()) for number in range(5)])
        assert list(sequences) == sorted(sequences)
        assert [record.sequence for record in await read(log, ("a.>",))][1:] == list(sequences)
        assert [record.data for record in await read(log)][1:] == [b"0", b"1", b"2", b"3", b"4"]

    async def test_a_batch_is_all_or_nothing(self, log: RecordLog) -> None:
        first = await log.append(Write("a.1", b"1"))
        with pytest.raises(Conflict):
            await log.append_batch(
                [Write("a.0", b"new", expected=0), Write("a.1", b"wrong", expected=0), Write("a.2", b"new")]
            )
        assert states(await read(log)) == [("a.1", b"1", first, False)]

    async def test_a_batch_has_a_limit_and_distinct_subjects(self, log: RecordLog) -> None:
        largest = [Write(f"a.{number}", b"x", expected=0) for number in range(BATCH_WRITES_MAX)]
        fence = await new_epoch(log)
        assert len(await log.append_batch(largest, fence=fence)) == BATCH_WRITES_MAX
        for refused in ([], [*largest, Write("a.more", b"")], [Write("a.1", b""), Write("a.1", b"")]):
            with pytest.raises(ValueError, match="a batch"):
                await log.append_batch(refused)

    @pytest.mark.parametrize("expected", [None, 0])
    async def test_a_fence_holds_until_the_next_epoch(self, log: RecordLog, expected: int | None) -> None:
        old = await new_epoch(log)
        await log.append(Write("a.1", b"1", expected=expected), fence=old)
        await log.append_batch([Write("a.2", b"2", expected=expected)], fence=old)
        new = await new_epoch(log)
        with pytest.raises(Deposed):
            await log.append(Write("a.3", b"3", expected=expected), fence=old)
        with pytest.raises(Deposed):
            await log.append_batch([Write("a.3", b"3"), Write("a.4", b"4", expected=expected)], fence=old)
        await log.append(Write("a.5", b"5", expected=expected), fence=new)
        assert [record.subject for record in await read(log, ("a.>",))] == ["a.1", "a.2", "a.5"]

    async def test_a_conflict_under_a_valid_fence_is_no_deposition(self, log: RecordLog) -> None:
        fence = await new_epoch(log)
        await log.append(Write("a.1", b"1"))
        with pytest.raises(Conflict) as single:
            await log.append(Write("a.1", b"2", expected=0), fence=fence)
        with pytest.raises(Conflict) as batch:
            await log.append_batch([Write("a.0", b"0"), Write("a.1", b"2", expected=0)], fence=fence)
        assert not isinstance(single.value, Deposed)
        assert not isinstance(batch.value, Deposed)

    async def test_fenced_writes_at_once_are_answered_each_for_itself(self, log: RecordLog) -> None:
        fence = await new_epoch(log)
        await log.append(Write("a.taken", b"by another"))
        writes = [Write(f"a.{number}", b"x", expected=0) for number in range(40)]
        writes[7] = Write("a.taken", b"x", expected=0)
        writes[23] = Write("a.23", b"x" * 2_000_000, expected=0)
        writes[31] = Write("a.30", b"y", expected=0)
        results = await asyncio.gather(*(log.append(each, fence=fence) for each in writes), return_exceptions=True)
        refused = {number: type(result) for number, result in enumerate(results) if isinstance(result, Exception)}
        assert refused == {7: Conflict, 23: TooLarge, 31: Conflict}
        last = {record.subject: (record.sequence, record.data) for record in await read(log)}
        for number in set(range(40)) - refused.keys():
            assert last[f"a.{number}"] == (results[number], b"x")
        await new_epoch(log)
        late = await asyncio.gather(
            *(log.append(Write(f"b.{number}", b"", expected=0), fence=fence) for number in range(5)),
            return_exceptions=True,
        )
        assert [type(result) for result in late] == [Deposed] * 5

    @pytest.mark.parametrize("way", list(WAYS))
    async def test_a_record_has_a_limit_that_is_the_same_for_every_kind_of_write(
        self, log: RecordLog, way: str
    ) -> None:
        fence = await new_epoch(log)
        present = await log.append(Write("a.present", b"x"))
        largest = b"x" * RECORD_BYTES_MAX
        before = await log.subjects()
        with pytest.raises(TooLarge):
            await WAYS[way](log, present, largest + b"x", fence)
        assert (await log.newest(), await log.subjects()) == (present, before)
        await WAYS[way](log, present, largest, fence)
        stored = [record for record in await read(log, ("a.>",), after=present) if record.data]
        assert [record.data == largest for record in stored] == [True] * len(stored) != []
        for record in stored:
            assert await log.last(record.subject) == record

    async def test_a_tail_of_an_empty_log_says_so(self, log: RecordLog) -> None:
        assert await read_batch(log) == ([], 0)

    async def test_a_tail_has_caught_up_beyond_what_it_does_not_want(self, log: RecordLog) -> None:
        await log.append(Write("a.1", b"1"))
        sequence = await log.append(Write("b.1", b"1"))
        assert (await read_batch(log, ("a.>",)))[1] == sequence
        assert await read_batch(log, ("a.>",), after=sequence) == ([], sequence)

    async def test_a_tail_delivers_what_is_stored_and_then_what_comes(self, log: RecordLog) -> None:
        await log.append(Write("a.1", b"old"))
        await log.append(Write("a.1", b"1"))
        async with timeout(PATIENCE_S), aclosing(log.tail()) as batches:
            first = await anext(batches)
            assert [record.data for record in first.records] == [b"1"]
            await log.append(Write("a.2", b"2"))
            assert [record.data for record in (await anext(batches)).records] == [b"2"]
            await log.append(Write("a.2", b"", tombstone=True))
            assert [record.tombstone for record in (await anext(batches)).records] == [True]

    async def test_a_tail_begins_after_a_sequence(self, log: RecordLog) -> None:
        sequences = [await log.append(Write(f"a.{number}", b"")) for number in range(4)]
        assert [record.sequence for record in await read(log, after=sequences[1])] == sequences[2:]
        with pytest.raises(Expired):
            await read(log, after=sequences[-1] + 1)

    async def test_a_tail_delivers_only_its_subjects(self, log: RecordLog) -> None:
        for subject in ("a.x.1", "b.x.1", "a.y.1", "a.x.2.deep"):
            await log.append(Write(subject, b""))
        assert [record.subject for record in await read(log, ("a.x.>",))] == ["a.x.1", "a.x.2.deep"]
        assert [record.subject for record in await read(log, ("a.*.1", "b.>"))] == ["a.x.1", "b.x.1", "a.y.1"]

    async def test_a_tail_misses_nothing_while_it_is_written(self, log: RecordLog) -> None:
        total = 2_000

        async def write() -> None:
            for start in range(0, total, 100):
                await log.append_batch([Write(f"a.{number}", b"x") for number in range(start, start + 100)])

        received: list[Record] = []
        async with timeout(PATIENCE_S), aclosing(log.tail(("a.>",))) as batches, Tasks() as tasks:
            writing = tasks.start(write(), "writer")
            batch: Batch = await anext(batches)
            received += batch.records
            while len(received) < total:
                received += (await anext(batches)).records
            await writing
        assert [record.subject for record in received] == [f"a.{number}" for number in range(total)]
        assert all(one.sequence < two.sequence for one, two in pairwise(received))
