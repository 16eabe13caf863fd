"""What runs stays near what is declared, whatever is done to it: paused, replaced without an end, deleted again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from control_world import SimNode, World, agent_set, controllers, memory_world

LARGE = {"cpu": "100m", "memory": "64Mi"}
SMALL = {"cpu": "1m", "memory": "1Mi"}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with memory_world() as world, controllers(world):
        yield world


@pytest.fixture
async def node(world: World) -> AsyncIterator[SimNode]:
    async with SimNode(world, "node-a") as node:
        await world.until(lambda: world.condition("agentnodes", "node-a", "Ready") == "True")
        yield node


async def resized(world: World, resources: dict[str, str], **spec: object) -> None:
    template = world.get("agentsets", "work")["spec"]["template"]
    await world.change_spec("agentsets", "work", template={**template, "resources": resources}, **spec)


async def test_a_paused_set_makes_nothing_larger_than_it_declares(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=1))
    await world.until(lambda: len(world.ready()) == 1)
    await resized(world, SMALL, paused=True, replicas=50)
    reason = (
        "LargerThanDeclared: 49 more may not be made while the set is paused, because its agents are made from an "
        "earlier template and need 100m cpu where 1m is declared, 64Mi memory where 1Mi is declared; resume it, or "
        "declare what they need"
    )
    await world.until(lambda: world.message("agentsets", "work", "Progressing") == reason)
    assert world.condition("agentsets", "work", "Progressing") == "False"
    await world.until(lambda: world.event_messages("LargerThanDeclared"))
    await world.pass_time(30)
    assert set(world.agents()) == {"work-0"}
    await world.delete_agent("work-0")
    await world.until(lambda: not world.agents())
    await world.pass_time(30)
    assert not world.agents()
    await resized(world, LARGE)
    await world.until(lambda: len(world.ready()) == 50)
    await resized(world, SMALL)
    await world.change_spec("agentsets", "work", paused=False)
    await world.until(lambda: world.condition("agentsets", "work", "Ready") == "True")
    assert {one.template.spec["resources"]["cpu"] for one in world.agents().values()} == {"1m"}


async def test_agents_that_do_not_end_are_replaced_once_and_no_more(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=4))
    await world.until(lambda: len(world.ready()) == 4)
    node.stops = False
    for _ in range(5):
        for name in sorted(world.ready()):
            await world.delete_agent(name)
        await world.pass_time(10)
    assert len(world.agents()) == 9, "twice as many as declared, and the surge"
    left = {name for name, one in world.agents().items() if one.record.deletion_ms}
    assert len(left) == 9
    assert world.message("agentsets", "work", "Progressing") == (
        "Draining: 4 more are made as soon as others have drained: 9 still do, and a set that shall have 4 has at "
        "most 9 at once"
    )
    assert world.condition("agentsets", "work", "Progressing") == "True"
    node.stop_all()
    await world.until(lambda: world.condition("agentsets", "work", "Ready") == "True")
    await world.until(lambda: len(world.agents()) == 4)


def allocated(world: World) -> dict[str, str]:
    return dict(world.get("agentsets", "work")["status"].get("allocated") or {})


async def test_a_set_says_what_all_its_agents_hold(world: World, node: SimNode) -> None:
    strategy = {"maxSurge": 1, "maxUnavailable": 0}
    await world.create("agentsets", agent_set(replicas=2, strategy=strategy))
    await world.until(lambda: allocated(world) == {"agents": "2", "cpu": "200m", "memory": "128Mi"})
    node.starts = False  # a rollout without an end: the agents of the template before stay
    await resized(world, SMALL)
    await world.until(lambda: allocated(world) == {"agents": "3", "cpu": "201m", "memory": "129Mi"})
    node.stops = False
    await world.change_spec("agentsets", "work", replicas=0)
    await world.until(lambda: world.get("agentsets", "work")["status"]["replicas"] == 0)
    assert allocated(world) == {"agents": "3", "cpu": "201m", "memory": "129Mi"}, "draining"
    await world.delete("agentsets", "work")
    await world.until(lambda: world.message("agentsets", "work").startswith("Deleting"))
    assert allocated(world)["agents"] == "3"
    node.stop_all()
    await world.until(lambda: not world.list("agentsets"))


async def test_agents_that_no_node_has_room_for_count_too(world: World) -> None:
    await world.create("agentsets", agent_set(replicas=2))
    await world.until(lambda: allocated(world) == {"agents": "2", "cpu": "200m", "memory": "128Mi"})
    await world.change_spec("agentsets", "work", replicas=0)
    await world.until(lambda: allocated(world) == {})


async def test_a_rollout_does_not_wait_for_those_that_go(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=8))
    await world.until(lambda: len(world.ready()) == 8)
    node.stops = False
    await resized(world, SMALL)
    await world.until(lambda: len(world.ready()) == 8 and world.condition("agentsets", "work", "Ready") == "True")
    assert len(world.agents()) == 16
