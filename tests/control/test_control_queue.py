"""The work queue: one entry per key, one worker per key, delays and back-off."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from choregos.control.queue import WorkQueue
from choregos.foundation.backoff import Backoff
from choregos.foundation.tasks import Tasks
from choregos.testing.sim_clock import SimClock


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
async def queue(clock: SimClock) -> AsyncIterator[WorkQueue[str]]:
    async with Tasks() as tasks:
        yield WorkQueue(clock, tasks, Backoff(initial_s=1, max_s=4, jitter=0))


async def waiting(queue: WorkQueue[str]) -> list[str]:
    """The keys that wait for a worker, taken into work."""
    queue.add("last")
    keys = []
    while (key := await queue.get()) != "last":
        keys.append(key)
    queue.done("last")
    return keys


async def test_a_key_waits_once_however_often_it_is_added(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert await waiting(queue) == ["a", "b"]


async def test_a_key_in_work_waits_until_it_is_done(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await waiting(queue) == ["a"]
    queue.add("a")
    queue.add("a")
    assert await waiting(queue) == []
    queue.done("a")
    assert await waiting(queue) == ["a"]
    queue.done("a")
    assert await waiting(queue) == []


async def test_the_earliest_delay_wins(queue: WorkQueue[str], clock: SimClock) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 2)
    queue.add_after("a", 5)
    queue.add_after("b", 1)
    await clock.advance(1)
    assert await waiting(queue) == ["b"]
    await clock.advance(1)
    assert await waiting(queue) == ["a"]
    queue.done("a")
    await clock.advance(20)
    assert await waiting(queue) == []


async def test_failures_wait_longer_each_time_until_forgotten(queue: WorkQueue[str], clock: SimClock) -> None:
    assert [queue.retry("a") for _ in range(4)] == [1, 2, 4, 4]
    queue.forget("a")
    assert queue.retry("a") == 1


async def test_superseded_delays_do_not_pile_up(queue: WorkQueue[str], clock: SimClock) -> None:
    for delay_s in range(10_000, 0, -1):
        queue.add_after("a", delay_s)
    assert len(queue._heap) < 100
    await clock.advance(1)
    assert await waiting(queue) == ["a"]
    queue.done("a")
    await clock.advance(10_000)
    assert await waiting(queue) == []
