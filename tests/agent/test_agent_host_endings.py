"""What ends is gone: the agent that clings to life, its worker, and what they have started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable

import pytest

from choregos.foundation.errors import CallError
from choregos.wire.instances import Phase

pytestmark = pytest.mark.real


async def gone(pid: int) -> None:
    """Returns when the process has ended."""
    with contextlib.suppress(ProcessLookupError):
        watched = os.pidfd_open(pid)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(watched, ended.set)
        try:
            async with asyncio.timeout(10.0):
                await ended.wait()
        finally:
            asyncio.get_running_loop().remove_reader(watched)
            os.close(watched)


@pytest.mark.parametrize("method", ["cling_with_a_task", "cling_with_a_thread"])
async def test_a_worker_ends_with_its_only_agent_whatever_that_still_does(stage, sample, method):
    stage.assign(sample("Clingy"), "ada", dedicated=True)
    await stage.until_running("ada")
    pid = await stage.call("ada", "process")
    with contextlib.suppress(CallError):
        await stage.call("ada", method, timeout_s=0.3)
    stage.withdraw("ada", grace_s=0.1)
    await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPED)
    await gone(pid)


async def test_a_worker_that_does_not_end_is_killed(stage, sample):
    stage.assign(sample("Clingy", block_timeout_s=1000.0), "ada", dedicated=True)
    await stage.until_running("ada")
    pid = await stage.call("ada", "process")
    stage.withdraw("ada")
    await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPED)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # it does nothing any more, and ends nothing
    await gone(pid)


async def test_an_on_stop_that_never_returns_does_not_keep_its_agent(stage, sample):
    stage.assign(sample("ClingsInItsHook"), "ada")
    stage.assign(sample("Greeter"), "bob")
    await stage.until_running("ada", "bob")
    stage.withdraw("ada", grace_s=0.1)
    await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPED)
    assert await stage.call("bob", "greet") == "bob greets world"


DAY_S = 86_400.0


async def test_a_call_that_is_given_a_day_can_still_be_given_no_time(stage, sample):
    stage.assign(sample("Greeter"), "ada")
    await stage.until_running("ada")
    async with asyncio.TaskGroup() as group:
        call = group.create_task(cancelled(stage.call("ada", "slow", seconds=DAY_S, timeout_s=DAY_S)))
        assert [text for _, _, text in (await stage.log("ada", wait_s=10.0)).lines] == ["begun"]
        stage.withdraw("ada", grace_s=DAY_S)
        await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPING)
        stage.withdraw("ada", grace_s=2 * DAY_S)
        stage.withdraw("ada", grace_s=0.0)
        await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPED)
    assert call.result()
    assert [one.phase for one in stage.history].count(Phase.STOPPED) == 1


async def test_an_on_stop_that_is_given_a_day_can_still_be_given_no_time(stage, sample):
    stage.assign(sample("ClingsInItsHook"), "ada")
    await stage.until_running("ada")
    stage.withdraw("ada", grace_s=DAY_S)
    await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPING)
    stage.withdraw("ada", grace_s=0.0)
    await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPED)


async def cancelled(call: Awaitable[object]) -> bool:
    try:
        await call
    except CallError:
        return True
    return False
