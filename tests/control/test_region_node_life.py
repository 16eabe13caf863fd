"""A node's silence, return, cordon and taints, and what becomes of its agents."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest
from control_world import SimNode, World, agent_set, controllers, memory_world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with memory_world() as world, controllers(world):
        yield world


def nodes(world: World) -> Counter[str]:
    return Counter(one.record.node for one in world.directory.list() if not one.record.deletion_ms)


async def up(world: World, *names: str) -> None:
    for name in names:
        await world.until(lambda name=name: world.condition("agentnodes", name, "Ready") == "True")


async def test_agents_of_a_silent_node_move_after_its_lease_and_not_before(world: World) -> None:
    async with SimNode(world, "node-b"):
        async with SimNode(world, "node-a"):
            await up(world, "node-a", "node-b")
            await world.create("agentsets", agent_set(replicas=4))
            await world.until(lambda: len(world.ready()) == 4)
            assert nodes(world) == {"node-a": 2, "node-b": 2}
        await world.pass_time(25)
        assert nodes(world) == {"node-a": 2, "node-b": 2}
        await world.until(lambda: nodes(world) == {"node-b": 4} and len(world.ready()) == 4, timeout_s=20)
        assert world.condition("agentnodes", "node-a", "Ready") == "Unknown"
        assert world.message("agentnodes", "node-a").startswith("NodeSilent")
        await world.until(lambda: {"NodeSilent", "Rebound"} <= world.reasons())
        moved = world.event_messages("Rebound")
        assert moved == ["node-a is lost: 2 of 2 agents go to other nodes"]
        assert Counter(one.record.binding for one in world.agents().values()) == {1: 2, 2: 2}


async def test_without_another_node_they_wait_and_return_with_it(world: World) -> None:
    async with SimNode(world, "node-a"):
        await up(world, "node-a")
        await world.create("agentsets", agent_set(replicas=2))
        await world.until(lambda: len(world.ready()) == 2)
    await world.until(lambda: nodes(world) == {"": 2})
    assert {one.record.reason for one in world.agents().values()} == {"NodeLost"}
    assert {one.record.message for one in world.agents().values()} == {
        "node-a is lost; 0/1 nodes fit: 1 not ready; nearest fit: node-a is not ready"
    }
    await world.until(lambda: world.get("agentsets", "work")["status"]["readyReplicas"] == 0)
    async with SimNode(world, "node-a"):
        await world.until(lambda: len(world.ready()) == 2)
        assert world.condition("agentnodes", "node-a", "Ready") == "True"


async def test_a_node_that_returns_in_time_keeps_its_agents(world: World) -> None:
    async with SimNode(world, "node-a"):
        await up(world, "node-a")
        await world.create("agentsets", agent_set(replicas=2))
        await world.until(lambda: len(world.ready()) == 2)
    await world.pass_time(30)
    async with SimNode(world, "node-a"):
        await world.pass_time(60)
        assert {one.record.binding for one in world.agents().values()} == {1}
        assert "NodeSilent" not in world.reasons()


async def test_agents_that_drain_on_a_lost_node_are_removed(world: World) -> None:
    async with SimNode(world, "node-a") as node:
        await up(world, "node-a")
        await world.create("agentsets", agent_set(replicas=2))
        await world.until(lambda: len(world.ready()) == 2)
        node.dies()
        await world.delete("agentsets", "work")
        await world.until(lambda: all(one.record.deletion_ms for one in world.agents().values()))
    await world.until(lambda: world.get("agentsets", "work") is None)


async def test_a_cordoned_node_keeps_its_agents_and_gets_no_more(world: World) -> None:
    async with SimNode(world, "node-a"), SimNode(world, "node-b"):
        await up(world, "node-a", "node-b")
        await world.create("agentsets", agent_set(replicas=2))
        await world.until(lambda: len(world.ready()) == 2)
        await world.change_spec("agentnodes", "node-a", unschedulable=True)
        await world.change_spec("agentsets", "work", replicas=5)
        await world.until(lambda: len(world.ready()) == 5)
        assert nodes(world) == {"node-a": 1, "node-b": 4}


async def test_tainted_nodes_take_those_who_tolerate_it(world: World) -> None:
    taint = {"key": "gpu", "value": "a100", "effect": "NoSchedule"}
    tolerant = {"placement": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}
    async with SimNode(world, "node-a", taints=[taint]):
        await up(world, "node-a")
        await world.create("agentsets", agent_set("picky", replicas=1))
        await world.create("agentsets", agent_set("tolerant", replicas=1, template=tolerant))
        await world.until(lambda: world.ready() == {"tolerant-0"})
        assert "1 with untolerated taint gpu=a100:NoSchedule" in world.agents()["picky-0"].record.message


async def test_no_execute_drives_out_those_who_do_not_tolerate_it_or_no_longer(world: World) -> None:
    patient = {"placement": {"tolerations": [{"key": "x", "operator": "Exists", "tolerationSeconds": 60}]}}
    async with SimNode(world, "node-a"):
        await up(world, "node-a")
        await world.create("agentsets", agent_set("hasty", replicas=2))
        await world.create("agentsets", agent_set("patient", replicas=1, template=patient))
        await world.until(lambda: len(world.ready()) == 3)
        async with SimNode(world, "node-b"):
            await up(world, "node-b")
            await world.change_spec("agentnodes", "node-a", taints=[{"key": "x", "effect": "NoExecute"}])
            await world.until(lambda: nodes(world) == {"node-a": 1, "node-b": 2}, timeout_s=5)
            assert world.get("agentnodes", "node-a")["spec"]["taints"][0]["timeAdded"]
            await world.pass_time(50)
            assert nodes(world) == {"node-a": 1, "node-b": 2}
            await world.until(lambda: nodes(world) == {"node-b": 3}, timeout_s=15)


async def test_a_node_that_cannot_be_read_stops_no_other(world: World, caplog: pytest.LogCaptureFixture) -> None:
    taint = {"key": "x", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
    async with SimNode(world, "node-a"), SimNode(world, "node-b", taints=[taint]):
        await up(world, "node-a", "node-b")
        await world.change_spec("agentnodes", "node-b", taints=[{**taint, "timeAdded": "garbage"}])
        await world.create("agentsets", agent_set(replicas=2))
        await world.until(lambda: len(world.ready()) == 2)
        await world.change_spec("agentsets", "work", replicas=3)
        await world.until(lambda: len(world.ready()) == 3)
        assert nodes(world) == {"node-a": 3}
        told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert len(told) == 1
        assert told[0].startswith("AgentNode node-b cannot be read")
        await world.change_spec("agentnodes", "node-b", taints=[])
        await world.change_spec("agentsets", "work", replicas=5)
        await world.until(lambda: nodes(world)["node-b"] > 0)


async def test_agents_of_a_deleted_node_move(world: World) -> None:
    async with SimNode(world, "node-a"), SimNode(world, "node-b"):
        await up(world, "node-a", "node-b")
        await world.create("agentsets", agent_set(replicas=2))
        await world.until(lambda: len(world.ready()) == 2)
        await world.delete("agentnodes", "node-a")
        await world.until(lambda: nodes(world) == {"node-b": 2} and len(world.ready()) == 2)


async def test_room_that_comes_free_goes_to_who_waits(world: World) -> None:
    async with SimNode(world, "node-a", {"cpu": "200m", "memory": "1Gi", "agents": "10"}):
        await up(world, "node-a")
        await world.create("agentsets", agent_set("first", replicas=2))
        await world.until(lambda: len(world.ready()) == 2)
        await world.create("agentsets", agent_set("second", replicas=1))
        await world.until(lambda: world.message("agentsets", "second").startswith("Unschedulable"))
        await world.change_spec("agentsets", "first", replicas=1)
        await world.until(lambda: world.ready() == {"first-0", "second-0"}, timeout_s=2)
