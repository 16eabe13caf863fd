"""What agents do to themselves and to each other: code that fails, probes, isolation, blocking, cancelled calls."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from e2e_fleet import until_event
from e2e_machine import AGENTS, Object, UpProcess, applied, as_yaml, cluster, condition, deleted, until

from choregos.client import Client
from choregos.foundation.errors import CallCancelled, CallError, DeadlineExceeded, HandlerFailed, HostLost

pytestmark = pytest.mark.real

Declare = Callable[..., AsyncIterator[None]]


@pytest.fixture
async def clean(client: Client) -> AsyncIterator[None]:
    """Takes all clusters away again."""
    yield
    for found in await client.list("agentclusters"):
        await deleted(client, found["metadata"]["name"])


@pytest.fixture(autouse=True)
def _always_clean(clean: None) -> None:
    """Every test here declares clusters of its own."""


async def agent_that(client: Client, name: str, holds: Callable[[Object], object], what: str) -> Object:
    found: list[Object] = []

    async def look() -> bool:
        found[:] = [agent for agent in await client.list("agents") if agent["metadata"]["name"] == name]
        return bool(found) and bool(holds(found[0]))

    await until(look, lambda: f"{name} {what}; it is {[agent['status'] for agent in found]}")
    return found[0]


def failed_as(reason: str) -> Callable[[Object], bool]:
    return lambda agent: agent["status"].get("reason") == reason


# Code that cannot run


@pytest.mark.parametrize(
    ("target", "path", "told"),
    [
        ("does_not_import:Agent", str(AGENTS), ("ZeroDivisionError", "read_setting", "does_not_import.py")),
        ("no_such_module:Agent", str(AGENTS), ("no_such_module",)),
        ("witness:NoSuchClass", str(AGENTS), ("NoSuchClass",)),
        ("witness:Path", str(AGENTS), ("Path", "Agent")),
        ("witness:Worker", "/no/such/directory", ("/no/such/directory",)),
    ],
)
async def test_code_that_cannot_be_imported_says_why_in_condition_and_event(
    machine: UpProcess, client: Client, target: str, path: str, told: tuple[str, ...]
):
    await client.apply(cluster("bad", {"name": "code", "runtime": {"python": target, "path": path}}))
    agent = await agent_that(client, "bad-code-0", failed_as("ImportFailed"), "fails to be imported")
    event = await until_event(client, "ImportFailed", about="bad-code-0", text=told[0])
    ready = condition(agent, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ImportFailed")
    for text in told:
        assert text in ready["message"]
        assert text in event["message"]
    assert told[0] in machine.kubectl("describe", "agent", "bad-code-0")
    cluster_ready = condition(await client.get("agentcluster", "bad"), "Ready")
    assert cluster_ready["status"] == "False"


async def test_corrected_code_starts_without_being_told(machine: UpProcess, client: Client, tmp_path: Path):
    shutil.copy(AGENTS / "does_not_import.py", tmp_path / "service.py")
    await client.apply(
        cluster("fixed", {"name": "code", "runtime": {"python": "service:Worker", "path": str(tmp_path)}})
    )
    await agent_that(client, "fixed-code-0", failed_as("ImportFailed"), "fails to be imported")
    shutil.copy(AGENTS / "witness.py", tmp_path / "service.py")
    await client.wait("agentcluster", "fixed", "condition=Ready", timeout_s=60)


async def test_on_start_that_raises_backs_off_and_succeeds_in_the_end(machine: UpProcess, client: Client):
    closed = machine.places / "closed"
    closed.touch()
    await client.apply(cluster("late", machine.template("agent", "FailsToStart", 1)))
    agent = await agent_that(
        client,
        "late-agent-0",
        # Between two attempts; while it makes one, its phase is Starting and its condition still tells of the last.
        lambda a: (
            a["status"].get("restarts", 0) >= 1 and a["status"]["phase"] == "BackOff" and failed_as("StartFailed")(a)
        ),
        "backs off",
    )
    assert "the database is closed" in condition(agent, "Ready")["message"]
    assert "on_start" in condition(agent, "Ready")["message"]
    await until_event(client, "StartFailed", about="late-agent-0", text="the database is closed")
    attempts = len((machine.places / "attempts").read_text())
    assert attempts <= 4
    closed.unlink()
    await client.wait("agentcluster", "late", "condition=Ready", timeout_s=60)


# Probes


async def test_probes_restart_what_is_sick_and_hide_what_is_busy(machine: UpProcess, client: Client):
    probe = {"periodSeconds": 0.1, "timeoutSeconds": 5, "failureThreshold": 2}
    probes = {"liveness": {"method": "healthy", **probe}, "readiness": {"method": "unoccupied", **probe}}
    await applied(client, cluster("probed", machine.template("agent", "Patient", 2, probes=probes)))
    busy, sick = machine.places / "busy-probed-agent-0", machine.places / "sick-probed-agent-1"
    busy.touch()
    agent = await agent_that(client, "probed-agent-0", lambda a: not a["status"]["ready"], "is not ready")
    assert agent["status"]["phase"] == "Running"
    assert agent["status"]["restarts"] == 0
    answers = [await client.call(capability="patience", method="who") for _ in range(5)]
    assert {answer["name"] for answer in answers} == {"probed-agent-1"}
    busy.unlink()
    await agent_that(client, "probed-agent-0", lambda a: a["status"]["ready"], "is ready again")
    sick.touch()
    event = await until_event(client, "ProbeFailed", about="probed-agent-1")
    assert "healthy" in event["message"]
    sick.unlink()
    await agent_that(
        client, "probed-agent-1", lambda a: a["status"]["ready"] and a["status"]["restarts"] >= 1, "was started again"
    )


# Isolation


async def test_dedicated_agents_have_processes_and_environments_of_their_own(machine: UpProcess, client: Client):
    own = machine.template("own", "Worker", 2, isolation="dedicated", env={"MOOD": "calm"})
    shared = machine.template("shared", "Worker", 4, env={"MOOD": "wild"})
    await applied(client, cluster("house", own, shared))
    pids = {}
    for name in ("own-0", "own-1", "shared-0", "shared-1", "shared-2", "shared-3"):
        pids[name] = (await client.call(agent=f"house-{name}", method="who"))["pid"]
    assert len({pids["own-0"], pids["own-1"]}) == 2
    assert not {pids["own-0"], pids["own-1"]} & {pid for name, pid in pids.items() if "shared" in name}
    assert len({pid for name, pid in pids.items() if "shared" in name}) == 2
    assert await client.call(agent="house-own-0", method="environment", name="MOOD") == ["calm", "calm"]
    assert await client.call(agent="house-shared-0", method="environment", name="MOOD") == ["wild", None]
    psutil.Process(pids["own-0"]).kill()
    await agent_that(client, "house-own-0", lambda a: a["status"]["ready"] and a["status"]["restarts"] == 1, "is back")
    for name, pid in pids.items():
        if name != "own-0":
            assert (await client.call(agent=f"house-{name}", method="who"))["pid"] == pid


@pytest.mark.parametrize(
    ("method", "text"), [("spin", "in spin"), ("sleep_wrongly", "in sleep_wrongly"), ("hold_the_lock", "hold_the_lock")]
)
async def test_an_agent_that_blocks_is_stopped_and_told_of_and_its_neighbours_go_on(
    machine: UpProcess, client: Client, method: str, text: str
):
    # More agents than workers: some neighbour shares the worker of the one that blocks.
    blocker = machine.template("blocker", "Blocker", 1, blockTimeoutSeconds=0.5)
    await applied(client, cluster("street", blocker, machine.template("neighbour", "Worker", 6)))
    process = (await client.call(agent="street-blocker-0", method="who"))["pid"]
    names = [f"street-neighbour-{number}" for number in range(6)]
    before = {name: (await client.call(agent=name, method="who"))["pid"] for name in names}
    assert process in before.values()
    async with asyncio.TaskGroup() as group:
        blocking = group.create_task(failure_of(client.call(agent="street-blocker-0", method=method, timeout_s=10)))
        for name in names:
            group.create_task(answer_of(client, name))
    assert isinstance(blocking.result(), CallError)
    if method != "hold_the_lock":  # its worker is killed, and a call in flight to a killed worker ends at its deadline
        assert isinstance(blocking.result(), HandlerFailed)
    event = await until_event(client, "Blocked", about="street-blocker-0", text=text)
    assert event["type"] == "Warning"
    await client.wait("agentcluster", "street", "condition=Ready", timeout_s=60)
    await agent_that(
        client, "street-blocker-0", lambda a: a["status"]["ready"] and a["status"]["restarts"] == 1, "is back"
    )
    if method != "hold_the_lock":
        after = {name: (await client.call(agent=name, method="who"))["pid"] for name in names}
        assert after == before


async def failure_of(call: object) -> BaseException | None:
    try:
        await call  # type: ignore[misc]
    except CallError as error:
        return error
    return None


async def answer_of(client: Client, name: str) -> None:
    """Calls until it is answered: while its worker is replaced, it cannot be reached."""

    async def answered() -> bool:
        with contextlib.suppress(CallError):
            return await client.call(agent=name, method="add", left=1, right=2, timeout_s=10) == 3
        return False

    await until(answered, f"{name} answers")


# Calls


async def test_a_client_that_goes_away_cancels_what_it_asked_for(machine: UpProcess, client: Client):
    await applied(client, cluster("desk", machine.template("worker", "Worker", 2)))
    for target in (
        {"agent": "desk-worker-0", "method": "wait_to_be_cancelled"},
        {"agent": "desk-worker-0", "method": "pass_on"},
    ):
        note = machine.places / f"cancel-{target['method']}"
        arguments = {"note": note.name}
        if target["method"] == "pass_on":
            arguments["agent"] = "desk-worker-1"
        async with machine.client() as passing:
            call = asyncio.ensure_future(passing.call_detailed(target, arguments, timeout_s=100))
            await _until_says(note, "begun")
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
            await _until_says(note, "cancelled")


async def test_deadlines_travel_with_the_call(machine: UpProcess, client: Client):
    await applied(client, cluster("desk", machine.template("worker", "Worker", 2)))
    note = machine.places / "deadline"
    target = {"agent": "desk-worker-0", "method": "pass_on"}
    arguments = {"agent": "desk-worker-1", "note": note.name}
    with pytest.raises((DeadlineExceeded, HandlerFailed)):
        await client.call_detailed(target, arguments, timeout_s=1.0)
    # The second callee was given 1,000 s by the first, which had one itself.
    await _until_says(note, "cancelled")


async def test_an_agent_that_is_deleted_ends_the_calls_it_serves(machine: UpProcess, client: Client):
    await applied(client, cluster("desk", machine.template("worker", "Worker", 1, terminationGracePeriodSeconds=0)))
    note = machine.places / "deleted"
    target = {"agent": "desk-worker-0", "method": "wait_to_be_cancelled"}
    async with asyncio.TaskGroup() as group:
        call = group.create_task(failure_of(client.call_detailed(target, {"note": note.name}, timeout_s=100)))
        await _until_says(note, "begun")
        await client.delete("agent", "desk-worker-0")
    assert isinstance(call.result(), CallCancelled)
    await _until_says(note, "cancelled")


async def test_agents_that_may_drain_for_a_day_can_be_ended_at_once(machine: UpProcess, client: Client):
    machine.kubectl("create", "namespace", "slow")
    worker = machine.template("worker", "Worker", 2, terminationGracePeriodSeconds=86_400)
    machine.kubectl("apply", "-f", "-", given=as_yaml(cluster("desk", worker, namespace="slow")))
    machine.kubectl("wait", "--for=condition=Ready", "agentcluster/desk", "-n", "slow", "--timeout=60s")
    pods = ("pods", "--all", "-n", "slow")
    async with asyncio.TaskGroup() as group:
        calls, notes = [], []
        for number in range(2):
            notes.append(machine.places / f"a-day-{number}")
            target = {"agent": f"desk-worker-{number}", "method": "wait_to_be_cancelled"}
            call = client.call_detailed(target, {"note": notes[-1].name}, timeout_s=100, namespace="slow")
            calls.append(group.create_task(failure_of(call)))
            await _until_says(notes[-1], "begun")
        machine.kubectl("delete", "namespace", "slow", "--wait=false")
        field = "jsonpath={.items[*].metadata.deletionGracePeriodSeconds}"

        async def draining() -> bool:
            return machine.kubectl("get", "pods", "-n", "slow", "-o", field).split() == ["86400", "86400"]

        await until(draining, "both have a day")
        machine.kubectl("delete", *pods, "--grace-period=86400", "--wait=false")
        assert await draining()
        assert machine.choregos("delete", "agent", "desk-worker-0", "-n", "slow", "--grace-period", "0").code == 0
        await _until_says(notes[0], "cancelled")
        machine.kubectl("delete", *pods, "--force", "--grace-period=0")
        await _until_says(notes[1], "cancelled")
    assert [type(call.result()) for call in calls] == [CallCancelled, CallCancelled]
    machine.kubectl("wait", "--for=delete", "namespace/slow", "--timeout=60s")


@pytest.mark.parametrize("how", ["exit", "SIGSEGV", "SIGKILL"])
async def test_a_call_whose_worker_dies_is_told_so(machine: UpProcess, client: Client, how: str):
    await applied(client, cluster("mortal", machine.template("worker", "Worker", 2)))
    target = {"agent": "mortal-worker-0", "method": "die"}
    error = await failure_of(client.call_detailed(target, {"how": how}, timeout_s=100))
    assert isinstance(error, HostLost)
    assert "may have begun" in str(error)


async def test_each_way_to_die_is_an_event_of_the_agent_that_is_blamed_counted(machine: UpProcess, client: Client):
    await applied(client, cluster("mortal", machine.template("worker", "Worker", 2)))
    for restarts, how in enumerate(("exit", "SIGSEGV", "exit")):
        assert isinstance(await failure_of(client.call(agent="mortal-worker-0", method="die", how=how)), HostLost)
        await agent_that(
            client,
            "mortal-worker-0",
            lambda agent: agent["status"].get("ready") and agent["status"]["restarts"] > restarts,  # noqa: B023
            "runs again",
        )

    async def events() -> dict[str, int]:
        of_agent = [
            event
            for event in await client.events(namespace="")
            if event["involvedObject"]["name"] == "mortal-worker-0" and event["reason"] == "Crashed"
        ]
        return {how: event["count"] for event in of_agent for how in ("status 3", "SIGSEGV") if how in event["message"]}

    async def told() -> bool:
        return await events() == {"status 3": 2, "SIGSEGV": 1}

    await until(told, "three deaths of two kinds")
    lost = await until_event(client, "WorkerLost", text="SIGSEGV")
    assert "blamed is default/mortal-worker-0" in lost["message"]


async def test_a_call_whose_node_dies_is_told_so(machine: UpProcess, client: Client):
    await applied(client, cluster("desk", machine.template("worker", "Worker", 1)))
    note = machine.places / "node-killed"
    target = {"agent": "desk-worker-0", "method": "wait_to_be_cancelled"}
    async with asyncio.TaskGroup() as group:
        call = group.create_task(failure_of(client.call_detailed(target, {"note": note.name}, timeout_s=100)))
        await _until_says(note, "begun")
        machine.only("node").kill()
    assert isinstance(call.result(), HostLost)


async def test_the_command_line_says_that_the_host_was_lost(machine: UpProcess, client: Client):
    await applied(client, cluster("desk", machine.template("worker", "Worker", 1)))
    result = await asyncio.to_thread(machine.choregos, "call", "desk-worker-0", "die", '{"how": "exit"}')
    assert result.code == 1
    assert "HostLost" in result.err


async def _until_says(path: Path, text: str) -> None:
    async def says() -> bool:
        return path.exists() and path.read_text() == text

    await until(says, f"{path.name} says {text}")
