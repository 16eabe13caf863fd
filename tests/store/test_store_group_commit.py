"""Fenced writes that are under way together share batches, and none answers for another."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from choregos.foundation.errors import Conflict, Deposed, Temporary, TooLarge
from choregos.store.backends import group_commit
from choregos.store.backends.group_commit import GroupCommit
from choregos.store.port import BATCH_WRITES_MAX, Fence, Write

FENCE = Fence("fence", "epoch", 1)
LIMIT = 100


class Batches:
    """A log of batches; each waits for `gate` to be opened, and `fails` says how it ends."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.stored: list[list[str]] = []
        self.data: dict[str, bytes] = {}
        self.under_way = 0
        self.fails: Exception | None = None
        self._sequence = 0

    async def append(self, writes: Sequence[Write], fence: Fence) -> Sequence[int]:
        assert self.under_way == 0, "one batch at a time"
        assert len({write.subject for write in writes}) == len(writes) <= BATCH_WRITES_MAX
        self.under_way += 1
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        if self.fails is not None:
            raise self.fails
        if any(len(write.data) > LIMIT for write in writes):
            raise TooLarge("too large")
        if any((write.subject in self.data) != (write.expected != 0) for write in writes):
            raise Conflict("changed")
        self.stored.append([write.subject for write in writes])
        self.data.update({write.subject: write.data for write in writes})
        first, self._sequence = self._sequence + 1, self._sequence + len(writes)
        return range(first, self._sequence + 1)


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
async def groups(batches: Batches) -> AsyncIterator[GroupCommit]:
    groups = GroupCommit(batches.append)
    yield groups
    batches.gate.set()
    await groups.close()


def new(subject: str, data: bytes = b"x") -> Write:
    return Write(subject, data, expected=0)


async def test_what_comes_while_a_batch_is_under_way_goes_together(batches: Batches, groups: GroupCommit) -> None:
    batches.gate.clear()
    first = asyncio.ensure_future(groups.append(new("first"), FENCE))
    while not batches.under_way:
        await asyncio.sleep(0)
    others = [asyncio.ensure_future(groups.append(new(f"s{number}"), FENCE)) for number in range(700)]
    await asyncio.sleep(0)
    batches.gate.set()
    assert await asyncio.gather(first, *others) == list(range(1, 702))
    assert [len(each) for each in batches.stored] == [1, BATCH_WRITES_MAX, 200]


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_is_refused_refuses_no_other(batches: Batches, groups: GroupCommit, seed: int) -> None:
    chance = random.Random(seed)
    batches.data = {"s3": b"", "s50": b""}
    writes = [new(f"s{number}") for number in range(80)]
    writes[17] = new("s17", b"x" * (LIMIT + 1))
    chance.shuffle(writes)
    results = await asyncio.gather(*(groups.append(write, FENCE) for write in writes), return_exceptions=True)
    refused = {
        write.subject: type(result)
        for write, result in zip(writes, results, strict=True)
        if isinstance(result, Exception)
    }
    assert refused == {"s3": Conflict, "s50": Conflict, "s17": TooLarge}
    assert len(batches.data) == 79
    # A conflict costs two batches for each halving, not one for each write.
    assert len(batches.stored) < 30


async def test_writes_of_one_subject_go_in_the_order_they_came(batches: Batches, groups: GroupCommit) -> None:
    writes = [new("a", b"1"), new("b"), Write("a", b"2", expected=1), new("c"), Write("a", b"3", expected=2)]
    await asyncio.gather(*(groups.append(write, FENCE) for write in writes))
    assert batches.stored == [["a", "b"], ["a", "c"], ["a"]]
    assert batches.data["a"] == b"3"


async def test_fences_and_sizes_part_groups(
    batches: Batches, groups: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "GROUP_BYTES_MAX", 150)
    newer = Fence("fence", "epoch", 2)
    large = b"x" * 80
    await asyncio.gather(
        groups.append(new("a"), FENCE),
        groups.append(new("b"), newer),
        groups.append(new("c", large), newer),
        groups.append(new("d", large), newer),
    )
    assert batches.stored == [["a"], ["b", "c"], ["d"]]


@pytest.mark.parametrize("error", [Deposed("over"), Temporary("no answer"), RuntimeError("a defect")])
async def test_what_concerns_all_is_told_to_all(batches: Batches, groups: GroupCommit, error: Exception) -> None:
    batches.fails = error
    results = await asyncio.gather(*(groups.append(new(f"s{n}"), FENCE) for n in range(5)), return_exceptions=True)
    assert results == [error] * 5
    batches.fails = None
    assert await groups.append(new("s0"), FENCE) == 1


async def test_one_that_is_given_up_in_time_is_not_stored(batches: Batches, groups: GroupCommit) -> None:
    batches.gate.clear()
    first, second, third = (asyncio.ensure_future(groups.append(new(name), FENCE)) for name in "abc")
    while not batches.under_way:
        await asyncio.sleep(0)
    fourth, fifth = (asyncio.ensure_future(groups.append(new(name), FENCE)) for name in "de")
    await asyncio.sleep(0)
    fourth.cancel()
    second.cancel()  # too late: it is under way
    batches.gate.set()
    assert [await first, await third, await fifth] == [1, 3, 4]
    assert batches.stored == [["a", "b", "c"], ["e"]]
    assert fourth.cancelled()
    assert second.cancelled()


async def test_nobody_waits_for_a_log_that_is_closed(batches: Batches, groups: GroupCommit) -> None:
    batches.gate.clear()
    waiting = [asyncio.ensure_future(groups.append(new(name), FENCE)) for name in "ab"]
    while not batches.under_way:
        await asyncio.sleep(0)
    waiting.append(asyncio.ensure_future(groups.append(new("c"), FENCE)))
    await asyncio.sleep(0)
    await groups.close()
    await asyncio.wait(waiting)
    assert all(each.cancelled() for each in waiting)


async def test_nobody_waits_for_the_other_half_of_a_group_when_the_log_is_closed() -> None:
    halving = asyncio.Event()

    async def append(writes: Sequence[Write], _: Fence) -> Sequence[int]:
        if len(writes) > 1:
            raise Conflict("changed")
        halving.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    groups = GroupCommit(append)
    waiting = [asyncio.ensure_future(groups.append(new(name), FENCE)) for name in "abc"]
    await halving.wait()
    await groups.close()
    done, _ = await asyncio.wait(waiting, timeout=5)
    assert len(done) == 3
    assert all(each.cancelled() for each in waiting)


async def test_an_answer_that_nobody_foresaw_is_told_to_all() -> None:
    async def append(writes: Sequence[Write], _: Fence) -> Sequence[int]:
        return range(1, len(writes))  # one too few

    groups = GroupCommit(append)
    waiting = [asyncio.ensure_future(groups.append(new(name), FENCE)) for name in "abc"]
    done, _ = await asyncio.wait(waiting, timeout=5)
    assert len(done) == 3
    assert isinstance(waiting[-1].exception(), ValueError)
    await groups.close()
