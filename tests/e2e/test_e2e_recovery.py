"""Whatever is killed under a busy fleet: the declared state comes back, nobody runs twice, and an event says why."""

from __future__ import annotations

import psutil
import pytest
from e2e_fleet import Fleet, hosts, until_event
from e2e_machine import UpProcess, until

from choregos.client import Client

pytestmark = pytest.mark.real

SIZE = 200


@pytest.fixture
async def fleet(machine: UpProcess, client: Client) -> Fleet:
    """Declared by the first test, found there by the others."""
    fleet = Fleet(machine, client, SIZE)
    await fleet.declare()
    return fleet


async def _gone(process: psutil.Process) -> None:
    async def gone() -> bool:
        return not process.is_running()

    await until(gone, f"{process} has ended")


async def _started_again(machine: UpProcess, role: str, old: psutil.Process) -> psutil.Process:
    async def again() -> psutil.Process | None:
        return next((process for process in machine.named(role) if process.pid != old.pid), None)

    found = await until(again, f"{role} runs again")
    assert found is not None
    return found


async def test_agents_of_a_killed_worker_come_back_in_another(fleet: Fleet, machine: UpProcess):
    before = await fleet.until_ready()
    answers = await fleet.ask_all()
    victim = psutil.Process(answers["fleet-witness-0"]["pid"])
    there = {name for name, answer in answers.items() if answer["pid"] == victim.pid}
    lost = frozenset({before["fleet-witness-0"]["status"]["host"]})
    async with fleet.load() as load:
        await fleet.until_answers(load)
        victim.kill()
        await _gone(victim)
        after = await fleet.until_ready(not_in=lost)
        await fleet.until_answers(load)
    assert not load.untyped
    after = await fleet.verify(before)
    moved = {name for name, agent in after.items() if agent["status"]["restarts"] > before[name]["status"]["restarts"]}
    assert moved == there
    event = await until_event(fleet.client, "WorkerLost", text="SIGKILL")
    assert event["type"] == "Warning"
    assert "WorkerLost" in machine.kubectl("get", "events")


async def test_a_killed_node_process_takes_its_workers_along_and_comes_back_with_all_agents(
    fleet: Fleet, machine: UpProcess
):
    before = await fleet.until_ready()
    node, workers = machine.only("node"), machine.named("worker")
    async with fleet.load() as load:
        await fleet.until_answers(load)
        node.kill()
        for worker in workers:
            await _gone(worker)
        await fleet.until_ready(not_in=hosts(before))
        await fleet.until_answers(load)
    assert not load.untyped
    await fleet.verify(before)
    event = await until_event(fleet.client, "NodeProcessRestarted", text=f"process {node.pid}")
    assert "SIGKILL" in event["message"]
    assert "NodeProcessRestarted" in machine.kubectl("get", "events")


async def test_agents_do_not_notice_that_the_control_plane_was_killed(fleet: Fleet, machine: UpProcess):
    before = await fleet.until_ready()
    control = machine.only("control")
    async with fleet.load() as load:
        await fleet.until_answers(load)
        control.kill()
        await _gone(control)
        await _started_again(machine, "control", control)
        await fleet.until_answers(load)
    assert not load.untyped
    after = await fleet.verify(await fleet.until_ready())
    assert _lives(after) == _lives(before)
    event = await until_event(fleet.client, "ControlPlaneRestarted", text=f"process {control.pid}")
    assert "SIGKILL" in event["message"]
    assert "ControlPlaneRestarted" in machine.kubectl("get", "events")
    # It leads again: what is declared now is done.
    set_name = "fleet-witness"
    await fleet.client.scale("agentset", set_name, SIZE + 1)
    await fleet.client.wait("agent", f"fleet-witness-{SIZE}", "create", timeout_s=60)
    await fleet.client.wait("agent", f"fleet-witness-{SIZE}", "condition=Ready", timeout_s=60)
    await fleet.client.scale("agentset", set_name, SIZE)
    await fleet.client.wait("agent", f"fleet-witness-{SIZE}", "delete", timeout_s=60)


async def test_controllers_and_agents_do_not_notice_that_the_api_server_was_killed(fleet: Fleet, machine: UpProcess):
    before = await fleet.until_ready()
    control, api = machine.only("control"), machine.only("api")
    async with fleet.load() as load:
        await fleet.until_answers(load)
        api.kill()
        await _gone(api)
        await _started_again(machine, "api", api)
        await fleet.until_answers(load)
    assert not load.untyped
    after = await fleet.verify(await fleet.until_ready())
    assert _lives(after) == _lives(before)
    assert machine.only("control") == control
    event = await until_event(fleet.client, "ApiServerRestarted", text=f"process {api.pid}")
    assert "SIGKILL" in event["message"]


async def test_agents_live_on_while_a_killed_nats_server_comes_back(fleet: Fleet, machine: UpProcess):
    before = await fleet.until_ready()
    bus = machine.only("nats-server")
    others = {process.pid for role in ("control", "api", "node", "worker") for process in machine.named(role)}
    async with fleet.load() as load:
        await fleet.until_answers(load)
        bus.kill()
        await _gone(bus)
        await _started_again(machine, "nats-server", bus)
        await fleet.until_answers(load)
    assert not load.untyped
    after = await fleet.verify(await fleet.until_ready())
    assert _lives(after) == _lives(before)
    assert {process.pid for role in ("control", "api", "node", "worker") for process in machine.named(role)} == others
    event = await until_event(fleet.client, "BusRestarted", text=f"process {bus.pid}")
    assert "SIGKILL" in event["message"]
    assert "BusRestarted" in machine.kubectl("get", "events")


async def test_nothing_outlives_a_killed_up_and_the_next_one_takes_the_fleet_up_again(fleet: Fleet, machine: UpProcess):
    before = await fleet.until_ready()
    all_of_them = machine.processes()
    assert {p.pid for p in all_of_them} == {machine.process.pid} | {
        child.pid for child in psutil.Process(machine.process.pid).children(recursive=True)
    }
    machine.process.kill()
    machine.process.wait()
    for process in all_of_them:
        await _gone(process)
    machine.until_gone()
    machine.start()
    async with machine.client() as client:
        revived = Fleet(machine, client, SIZE)
        await revived.until_ready(not_in=hosts(before))
        await revived.verify(before)


def _lives(agents: dict[str, dict[str, object]]) -> dict[str, tuple[object, object]]:
    """In which worker each agent is, and how often it was started again."""
    return {name: (agent["status"]["host"], agent["status"]["restarts"]) for name, agent in agents.items()}  # type: ignore[index]
