"""Agents in real worker processes: they start, answer, fail with a reason, and stop when they are told to."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import msgspec
import pytest

from choregos.foundation.errors import CallError
from choregos.wire.instances import Phase
from choregos.wire.worker import Probe

pytestmark = pytest.mark.real


async def test_assigned_agents_run_and_answer(stage, sample):
    stage.assign(sample("Greeter"), "ada", "bob")
    await stage.until_running("ada", "bob")
    assert stage.statuses["ada"].capabilities == ("greeting", "speaking", "identity", "asking", "patience")
    assert await stage.call("ada", "greet", whom="you") == "ada greets you"
    assert await stage.call("bob", "ask", agent="ada") == "ada greets bob"


async def test_assigning_again_changes_nothing(stage, sample):
    template = sample("Greeter")
    stage.assign(template, "ada")
    await stage.until_running("ada")
    told = len(stage.history)
    stage.assign(template, "ada")
    assert await stage.call("ada", "greet")
    assert len(stage.history) == told


async def test_a_new_binding_replaces_the_agent(stage, sample, tmp_path: Path):
    notes = tmp_path / "notes"
    template = sample("Hooked", settings=json.dumps({"file": str(notes)}).encode())
    stage.assign(template, "ada")
    await stage.until_running("ada")
    stage.assign(template, "ada", binding=2)
    await stage.until(lambda: stage.is_running("ada") and stage.statuses["ada"].binding == 2)
    assert notes.read_text().split() == ["start", "ada", "stop", "ada", "start", "ada"]
    phases = [status.phase for status in stage.history]
    assert phases[-3:] == [Phase.STOPPING, Phase.STARTING, Phase.RUNNING]


async def test_a_withdrawn_agent_runs_its_on_stop_and_is_forgotten(stage, sample, tmp_path: Path):
    notes = tmp_path / "notes"
    stage.assign(sample("Hooked", settings=json.dumps({"file": str(notes)}).encode()), "ada")
    await stage.until_running("ada")
    stage.withdraw("ada")
    await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPED)
    assert notes.read_text().split() == ["start", "ada", "stop", "ada"]


async def test_a_call_in_flight_ends_before_its_agent_stops(stage, sample):
    stage.assign(sample("Greeter"), "ada")
    await stage.until_running("ada")
    async with asyncio.TaskGroup() as group:
        call = group.create_task(stage.call("ada", "slow", seconds=0.5))
        assert [text for _, _, text in (await stage.log("ada", wait_s=10.0)).lines] == ["begun"]
        stage.withdraw("ada", grace_s=20.0)
        await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPED)
    assert call.result() == "done"
    with pytest.raises(CallError):
        await stage.call("ada", "greet", timeout_s=1.0)


async def test_an_import_failure_is_told_with_its_traceback(stage, sample):
    stage.assign(sample("Whoever", module="broken_agents"), *(f"a{number}" for number in range(20)))
    status = await stage.until_failed("a0", "ImportFailed")
    assert "ZeroDivisionError" in status.message
    assert "return 1 / 0" in status.message
    await stage.until(lambda: any(event.reason == "ImportFailed" for event in stage.events))
    event = next(event for event in stage.events if event.reason == "ImportFailed")
    assert "(and 19 more agents of its template)" in event.message


@pytest.mark.parametrize(
    ("class_name", "module", "reason", "words"),
    [
        ("FailsToStart", "sample_agents", "StartFailed", "ValueError: no database here"),
        ("FailsToBeMade", "sample_agents", "StartFailed", "LookupError: no such setting"),
        ("NotAnAgent", "sample_agents", "ImportFailed", "inherits from choregos.Agent"),
        ("Missing", "sample_agents", "ImportFailed", "has no 'Missing'"),
        ("Missing", "no_such_module", "ImportFailed", "there is no module 'no_such_module'"),
    ],
)
async def test_a_failed_start_says_why_and_is_repeated(stage, sample, class_name, module, reason, words):
    stage.assign(sample(class_name, module=module), "ada")
    status = await stage.until_failed("ada", reason)
    assert words in status.message
    await stage.until(lambda: stage.statuses["ada"].restarts >= 3)


async def test_a_start_that_takes_too_long_is_ended(stage, sample):
    stage.assign(sample("NeverStarts", start_timeout_s=0.2), "ada")
    status = await stage.until_failed("ada", "StartTimeout")
    assert "0.2 s" in status.message


async def test_an_agent_whose_start_is_under_way_can_be_withdrawn(stage, sample):
    stage.assign(sample("NeverStarts"), "ada")
    await stage.until(lambda: stage.statuses.get("ada") is not None)
    stage.assign(sample("Greeter"), "bob")
    await stage.until_running("bob")
    stage.withdraw("ada", grace_s=0.1)
    await stage.until(lambda: stage.statuses["ada"].phase is Phase.STOPPED)


async def test_an_entry_point_that_nobody_offers_says_how_to_offer_it(stage, sample):
    template = sample("x")
    stage.assign(msgspec.structs.replace(template, python="", entry_point="nobody", digest="e"), "ada")
    await stage.until(lambda: "ada" in stage.statuses and stage.statuses["ada"].reason == "RuntimeNotFound")
    status = stage.statuses["ada"]
    assert (status.phase, status.restarts) == (Phase.PENDING, 0)
    assert "choregos.agents" in status.message


async def test_readiness_follows_its_probe(stage, sample):
    probe = Probe("healthy", period_s=0.05, failure_threshold=2)
    stage.assign(sample("Sick", readiness=probe), "ada")
    await stage.until_running("ada")
    await stage.call("ada", "fall_ill")
    await stage.until(lambda: not stage.statuses["ada"].ready)
    assert stage.statuses["ada"].phase is Phase.RUNNING
    assert "healthy() returned False" in stage.statuses["ada"].message


async def test_an_agent_that_never_becomes_ready_says_why(stage, sample):
    stage.assign(sample("Greeter", readiness=Probe("no_such_method", period_s=0.05, failure_threshold=2)), "ada")
    await stage.until(lambda: "ada" in stage.statuses and stage.statuses["ada"].reason == "NotReady")
    assert stage.statuses["ada"].phase is Phase.RUNNING
    assert "readiness probe: no_such_method() raised" in stage.statuses["ada"].message
    assert [event.reason for event in stage.events] == ["NotReady"]


async def test_an_agent_that_fails_its_liveness_probe_is_started_again(stage, sample):
    probe = Probe("healthy", period_s=0.05, failure_threshold=2)
    stage.assign(sample("Sick", liveness=probe), "ada")
    await stage.until_running("ada")
    await stage.call("ada", "fall_ill")
    status = await stage.until_failed("ada", "ProbeFailed")
    assert "healthy() returned False" in status.message
    await stage.until_running("ada", restarts=1)


async def test_a_dedicated_agent_has_a_process_and_its_environment_to_itself(stage, sample):
    shared = sample("Greeter", env=(("COLOUR", "green"),))
    stage.assign(shared, "ada", "bob")
    stage.assign(shared, "cid", dedicated=True)
    await stage.until_running("ada", "bob", "cid")
    processes = {name: await stage.call(name, "process") for name in ("ada", "bob", "cid")}
    assert processes["ada"] == processes["bob"] != processes["cid"]
    assert os.getpid() not in processes.values()
    assert await stage.call("cid", "variable", name="COLOUR") == {"env": "green", "process": "green"}
    assert await stage.call("ada", "variable", name="COLOUR") == {"env": "green", "process": None}


async def test_modules_of_the_same_name_on_different_paths_do_not_meet(stage, sample, tmp_path: Path):
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "mine.py").write_text(
            "from choregos import Agent, capability\n"
            "class Mine(Agent):\n"
            "    @capability\n"
            f"    async def which(self) -> int: return {number}\n"
        )
        stage.assign(sample("Mine", module="mine", paths=(str(folder),)), f"a{number}")
    await stage.until_running("a1", "a2")
    assert [await stage.call(name, "which") for name in ("a1", "a2")] == [1, 2]


async def test_changed_code_runs_in_a_fresh_worker(stage, sample, tmp_path: Path):
    file = tmp_path / "changing.py"

    def write(number: int) -> None:
        file.write_text(
            "from choregos import Agent, capability\n"
            "class Changing(Agent):\n"
            "    @capability\n"
            f"    async def which(self) -> int: return {number}\n"
        )
        os.utime(file, ns=(number, number))

    write(1)
    stage.assign(sample("Changing", module="changing", paths=(str(tmp_path),)), "old")
    await stage.until_running("old")
    write(2)
    stage.assign(sample("Changing", module="changing", paths=(str(tmp_path),)), "new")
    await stage.until_running("new")
    assert await stage.call("old", "which") == 1
    assert await stage.call("new", "which") == 2
    assert stage.statuses["old"].host != stage.statuses["new"].host
    stage.withdraw("old")
    await stage.until(lambda: stage.statuses["old"].phase is Phase.STOPPED)


async def test_leaving_the_host_ends_its_workers(open_stage, sample, tmp_path: Path):
    notes = tmp_path / "notes"
    async with open_stage() as stage:
        stage.assign(sample("Hooked", settings=json.dumps({"file": str(notes)}).encode()), "ada")
        await stage.until_running("ada")
        pid = await stage.call("ada", "process")
    assert not Path(f"/proc/{pid}").exists()
    assert notes.read_text().split() == ["start", "ada", "stop", "ada"]


async def test_what_an_agent_logs_and_prints_is_in_its_log(stage, sample):
    stage.assign(sample("Greeter"), "ada", "bob")
    await stage.until_running("ada", "bob")
    assert not (await stage.log("ada")).known
    await stage.call("ada", "greet", whom="the reader")
    first = await stage.log("ada", wait_s=10.0)
    assert [(level, text) for _, level, text in first.lines] == [("INFO", "greeting the reader")]
    await stage.call("ada", "speak", text="hear, hear")
    second = await stage.log("ada", after=first.cursor, wait_s=10.0)
    assert [text for _, _, text in second.lines] == ["hear, hear"]
    assert not (await stage.log("bob")).known
