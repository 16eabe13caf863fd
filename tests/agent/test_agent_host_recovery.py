"""What dies comes back, who blocks is found, and the neighbours hardly notice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from choregos.foundation.errors import CallError, HandlerFailed
from choregos.wire.instances import Phase
from choregos.wire.worker import Probe

pytestmark = pytest.mark.real


async def test_agents_of_a_killed_worker_come_back(stage, sample):
    names = [f"a{number}" for number in range(50)]
    stage.assign(sample("Greeter"), *names)
    await stage.until_running(*names)
    old = stage.statuses["a7"].host
    os.kill(await stage.call("a7", "process"), signal.SIGKILL)
    await stage.until_running(*names, restarts=1)
    assert stage.statuses["a7"].host != old
    assert await stage.call("a7", "greet") == "a7 greets world"
    failed = await stage.until_failed("a7", "WorkerLost")
    assert "SIGKILL" in failed.message
    lost = [event for event in stage.events if event.reason == "WorkerLost"]
    assert len(lost) == 1
    assert "with 50 agents" in lost[0].message


async def test_a_worker_that_cannot_reach_the_bus_says_so(open_stage, sample):
    async with open_stage(password="wrong") as stage:
        stage.assign(sample("Greeter"), "ada")
        await stage.until(lambda: any(event.reason == "WorkerFailed" for event in stage.events))
        event = next(event for event in stage.events if event.reason == "WorkerFailed")
        assert "nats-server refuses" in event.message
        assert stage.statuses["ada"].phase in (Phase.STARTING, Phase.BACKOFF)


@pytest.mark.parametrize("method", ["spin", "spin_and_swallow", "sleep_wrongly", "spin_in_task"])
async def test_an_agent_that_blocks_is_interrupted_and_its_neighbour_goes_on(stage, sample, method):
    probe = Probe("healthy", period_s=0.1, timeout_s=1.0, failure_threshold=2)
    stage.assign(sample("Greeter", liveness=probe), "neighbour")
    stage.assign(sample("Blocker", block_timeout_s=0.3), "blocker")
    await stage.until_running("neighbour", "blocker")
    host = stage.statuses["neighbour"].host
    async with asyncio.TaskGroup() as group:
        blocking = group.create_task(_failure_of(stage.call("blocker", method)))
        answer = group.create_task(stage.call("neighbour", "greet", whom="all"))
    assert answer.result() == "neighbour greets all"
    assert isinstance(blocking.result(), CallError)
    status = await stage.until_failed("blocker", "Blocked")
    assert "sample_agents.py" in status.message
    assert "kept the event loop" in status.message
    await stage.until_running("blocker", restarts=1)
    assert stage.statuses["neighbour"].host == host
    assert stage.statuses["neighbour"].restarts == 0
    assert stage.statuses["blocker"].host == host


@pytest.mark.parametrize("class_name", ["BlocksWhileItIsMade", "BlocksWhileItStarts", "BlocksInAProbe"])
async def test_hooks_and_probes_that_block_are_interrupted_too(stage, sample, class_name):
    stage.assign(sample("Greeter"), "neighbour")
    await stage.until_running("neighbour")
    probe = Probe("healthy") if class_name == "BlocksInAProbe" else None
    stage.assign(sample(class_name, block_timeout_s=0.2, liveness=probe), "blocker")
    status = await stage.until_failed("blocker", "Blocked")
    assert "sample_agents.py" in status.message
    assert await stage.call("neighbour", "greet", whom="all") == "neighbour greets all"
    assert stage.statuses["neighbour"].restarts == 0


async def test_who_calls_a_neighbour_without_end_is_blamed_and_not_the_neighbour(stage, sample):
    stage.assign(sample("Greeter"), "neighbour")
    stage.assign(sample("CallsWithoutEnd", block_timeout_s=0.3), "caller")
    await stage.until_running("neighbour", "caller")
    assert isinstance(await _failure_of(stage.call("caller", "go_on", agent="neighbour")), CallError)
    await stage.until_failed("caller", "Blocked")
    assert await stage.call("neighbour", "greet", whom="all") == "neighbour greets all"
    assert stage.statuses["neighbour"].restarts == 0


async def test_a_module_that_never_finishes_its_import_holds_up_nobody(stage, sample):
    stage.assign(sample("Whoever", module="slow_module", start_timeout_s=0.3), "slow")
    stage.assign(sample("Greeter"), "neighbour")
    await stage.until_running("neighbour")
    status = await stage.until_failed("slow", "StartTimeout")
    assert "slow_module.py" in status.message
    await stage.until(lambda: stage.statuses["slow"].restarts >= 2)
    assert await stage.call("neighbour", "greet", whom="all") == "neighbour greets all"


async def test_the_caller_of_a_blocking_agent_gets_its_stack(stage, sample):
    stage.assign(sample("Blocker", block_timeout_s=0.3), "blocker")
    await stage.until_running("blocker")
    error = await _failure_of(stage.call("blocker", "spin"))
    assert isinstance(error, HandlerFailed)
    assert "in spin" in error.remote_traceback


async def test_an_agent_that_cannot_be_interrupted_is_put_into_quarantine(stage, sample):
    stage.assign(sample("Greeter"), "neighbour")
    stage.assign(sample("Blocker", block_timeout_s=0.3), "blocker")
    await stage.until_running("neighbour", "blocker")
    old = stage.statuses["neighbour"].host
    async with asyncio.TaskGroup() as group:
        blocking = group.create_task(_failure_of(stage.call("blocker", "hold_the_lock", timeout_s=5.0)))
        await stage.until_running("neighbour", restarts=1)
        assert await stage.call("neighbour", "greet", whom="all") == "neighbour greets all"
    assert isinstance(blocking.result(), CallError)
    assert stage.statuses["neighbour"].host != old
    assert not any(status.name == "neighbour" and status.phase is Phase.BACKOFF for status in stage.history)
    status = await stage.until_failed("blocker", "Blocked")
    assert "hold_the_lock" in status.message
    await stage.until_running("blocker", restarts=1)
    assert stage.statuses["blocker"].host != stage.statuses["neighbour"].host


async def test_an_agent_that_crashes_its_worker_is_put_into_quarantine(stage, sample):
    stage.assign(sample("Greeter"), "neighbour")
    stage.assign(sample("Blocker"), "blocker")
    await stage.until_running("neighbour", "blocker")
    async with asyncio.TaskGroup() as group:
        group.create_task(_failure_of(stage.call("blocker", "crash", timeout_s=2.0)))
        await stage.until_running("neighbour", restarts=1)
    status = await stage.until_failed("blocker", "Crashed")
    assert "SIGSEGV" in status.message
    await stage.until_running("blocker", restarts=1)
    assert stage.statuses["blocker"].host != stage.statuses["neighbour"].host


_NODE = """
import asyncio, json, sys
from choregos.agent.contract import HostSettings
from choregos.agent.host import AgentHost, Assignment
from choregos.foundation.clock import SystemClock
from choregos.foundation.ids import SystemIds
from choregos.wire.worker import Template

async def resolve(namespace, question): raise AssertionError

async def main():
    server, user, password, samples, file = sys.argv[1:]
    told = asyncio.Event()
    settings = HostSettings("n", "local", (server,), user, password, workers=1)
    def on_statuses(statuses):
        for status in statuses:
            if status.ready:
                print(open(file).read(), flush=True)
    def on_event(event):
        print(event, file=sys.stderr)
    host = AgentHost(settings, resolve=resolve, on_statuses=on_statuses, on_event=on_event,
                     on_stats=lambda namespace, stats: None, clock=SystemClock(), ids=SystemIds())
    async with host:
        template = Template("d", "t", python="sample_agents:LeavesItsProcessNumber", paths=(samples,),
                            settings=json.dumps({"file": file}).encode())
        host.assign([Assignment("default", "ada", "u", 1, template)])
        await told.wait()

asyncio.run(main())
"""


async def test_no_worker_survives_its_node(nats_address, tmp_path: Path):
    program = tmp_path / "node.py"
    program.write_text(_NODE)
    samples = str(Path(__file__).parent / "samples")
    node = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        nats_address.servers[0],
        nats_address.user,
        nats_address.password,
        samples,
        str(tmp_path / "number"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert node.stdout is not None
    worker = int(await node.stdout.readline())
    watched = os.pidfd_open(worker)
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(watched, lambda: ended.done() or ended.set_result(None))
    node.kill()
    await node.wait()
    async with asyncio.timeout(10.0):
        await ended
    asyncio.get_running_loop().remove_reader(watched)
    os.close(watched)


async def _failure_of(awaitable) -> BaseException:
    try:
        await awaitable
    except CallError as error:
        return error
    raise AssertionError("the call returned")
