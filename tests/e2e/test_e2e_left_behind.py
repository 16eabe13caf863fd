"""What agents start themselves ends with them, however detached it is and whoever is killed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import psutil
import pytest
from e2e_machine import UpProcess, applied, cluster, until, wait_for

from choregos.client import Client
from choregos.foundation.errors import NoAgent, Unavailable

pytestmark = [pytest.mark.real, pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can find them")]

AGENTS = ("family-parent-0", "family-parent-1")
Pids = dict[str, int]


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def until_gone(pids: Pids) -> None:
    for name, pid in pids.items():
        wait_for(lambda: not lives(pid), f"{name} has ended")  # noqa: B023


@pytest.fixture
def begun() -> Iterator[list[int]]:
    """What a failed test may leave."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


async def answer(client: Client, name: str) -> Pids:
    """What the agent has started; nothing while it cannot be called, as after the test before."""
    with contextlib.suppress(NoAgent, Unavailable):
        started: Pids = await client.call(agent=name, method="bring_forth")
        return started
    return {}


async def bring_forth(machine: UpProcess, client: Client, begun: list[int]) -> tuple[Pids, Pids]:
    """What either of two agents, each in a worker of its own, has started; the worker included."""
    template = machine.template("parent", "parents:Parent", 2, isolation="dedicated")
    await applied(client, cluster("family", template))
    families = []
    for name in AGENTS:
        family: Pids = await until(lambda: answer(client, name), f"{name} answers")  # noqa: B023
        begun += family.values()
        assert all(map(lives, family.values()))
        families.append({**family, "worker": await client.call(agent=name, method="process")})
    return families[0], families[1]


async def test_with_their_worker(machine: UpProcess, client: Client, begun: list[int]):
    ada, bob = await bring_forth(machine, client, begun)
    psutil.Process(ada["worker"]).kill()
    until_gone(ada)
    assert all(map(lives, bob.values()))


async def test_with_the_node(machine: UpProcess, client: Client, begun: list[int]):
    families = await bring_forth(machine, client, begun)
    machine.only("node").kill()
    for family in families:
        until_gone(family)


async def test_with_the_machine(machine: UpProcess, client: Client, begun: list[int]):
    families = await bring_forth(machine, client, begun)
    machine.stop()
    for family in families:
        until_gone(family)
    machine.start()


async def test_with_up_and_the_node_killed_at_once(machine: UpProcess, client: Client, begun: list[int]):
    families = await bring_forth(machine, client, begun)
    node = machine.only("node")
    machine.process.kill()
    node.kill()
    machine.process.wait()
    for family in families:
        until_gone(family)
    machine.until_gone()
    machine.start()


async def test_with_everything_killed_at_once_when_the_machine_is_started_again(
    machine: UpProcess, client: Client, begun: list[int]
):
    families = await bring_forth(machine, client, begun)
    node = machine.only("node")
    guard = node.parent()
    assert guard is not None
    assert guard.pid != machine.process.pid
    for process in (guard, node, machine.process):
        process.kill()
    machine.process.wait()
    machine.start()
    for family in families:
        until_gone(family)
