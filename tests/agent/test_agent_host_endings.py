"""What ends is gone: the agent that clings to life, its worker, and what they have started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable

import pytest

from choregos.foundation.errors import CallError
from choregos.wire.instances import Phase
from choregos.wire.worker import Probe

pytestmark = pytest.mark.real

DAY_S = 86_400.0


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


async def test_an_agent_that_swallows_its_cancellation_has_stopped_when_its_worker_has_ended(stage, sample, tmp_path):
    ticks = tmp_path / "ticks"
    stage.assign(sample("Ticks", settings=json.dumps({"file": str(ticks)}).encode()), "ada")
    stage.assign(sample("Greeter"), "bob")
    await stage.until_running("ada", "bob")
    pid = await stage.call("bob", "process")
    stage.withdraw("ada", grace_s=0.1)
    await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPED)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    ticked = ticks.read_text()
    await stage.until_running("bob", restarts=1)
    assert await stage.call("bob", "greet") == "bob greets world"
    assert ticks.read_text() == ticked
    assert set(ticked.split()) == {str(pid)}
    assert "ada goes on although it was cancelled: Ticks.tick; blamed is" in stage.events[0].message
    assert not [one for one in stage.history if one.name == "bob" and one.phase is Phase.BACKOFF]


@pytest.mark.parametrize("class_name", ["ClingsInItsHook", "ClingsInItsCall", "ClingsInItsProbe"])
async def test_code_that_never_returns_does_not_keep_its_agent(stage, sample, class_name):
    probe = Probe("healthy", timeout_s=DAY_S) if class_name == "ClingsInItsProbe" else None
    stage.assign(sample(class_name, liveness=probe), "ada")
    stage.assign(sample("Greeter"), "bob")
    await stage.until_running("ada", "bob")
    pid = await stage.call("bob", "process")
    async with asyncio.TaskGroup() as group:
        call = group.create_task(cancelled(stage.call("ada", "cling"))) if class_name == "ClingsInItsCall" else None
        if class_name != "ClingsInItsHook":
            assert [text for _, _, text in (await stage.log("ada", wait_s=10.0)).lines] == ["begun"]
        stage.withdraw("ada", grace_s=0.1)
        await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPED)
        if call is not None:
            call.cancel()  # nobody tells this caller that the worker is gone
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await stage.until_running("bob", restarts=1)


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
