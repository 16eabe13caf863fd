"""Timeouts in a task that is being cancelled: on every Python the same, whichever of them has the repair built in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from choregos.foundation.timeout import RepairedTimeout, timeout, timeout_at

AtOnce = Callable[[], asyncio.Timeout]


def repaired_at_once() -> asyncio.Timeout:
    return RepairedTimeout(asyncio.get_running_loop().time())


def at_once() -> asyncio.Timeout:
    return timeout(0)


def at_this_moment() -> asyncio.Timeout:
    return timeout_at(asyncio.get_running_loop().time())


every_kind = pytest.mark.parametrize("make", [repaired_at_once, at_once, at_this_moment])


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def ended_with(make: AtOnce, said: list[str]) -> None:
    """Waits until it is cancelled, and then in vain for something that may take no time."""
    try:
        await forever()
    finally:
        try:
            async with make() as scope:
                await forever()
        except TimeoutError:
            said.append("timed out")
        assert scope.expired()
        said.append("went on")


@every_kind
async def test_it_runs_out_in_a_task_that_is_being_cancelled(make: AtOnce):
    said: list[str] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ended_with(make, said))
        await asyncio.sleep(0)
        task.cancel()
    assert said == ["timed out", "went on"]
    assert task.cancelled()


@every_kind
async def test_it_runs_out_in_a_task_that_is_not(make: AtOnce):
    with pytest.raises(TimeoutError):
        async with make():
            await forever()


@pytest.mark.parametrize("make", [lambda: RepairedTimeout(None), lambda: timeout(None)])
async def test_a_cancellation_from_outside_stays_one(make: AtOnce):
    said: list[str] = []

    async def work() -> None:
        async with make():
            await forever()
        said.append("went on")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
    assert not said


@every_kind
async def test_a_second_cancellation_as_it_runs_out_is_not_swallowed(make: AtOnce):
    async def work() -> None:
        async with make():
            try:
                await forever()
            except asyncio.CancelledError:
                task.cancel()
                raise

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
    assert task.cancelled()


async def test_without_an_error_it_says_nothing():
    async with RepairedTimeout(None) as scope:
        scope.reschedule(asyncio.get_running_loop().time() + 60)
    assert not scope.expired()
