"""An AgentSet becomes agents: made, scaled, replaced, drained; and what its status and events say meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from control_world import SimNode, World, agent_set, controllers, memory_world

from choregos.foundation.errors import Conflict
from choregos.store.instance import Template
from choregos.store.instances import InstanceWriter
from choregos.store.port import Fence
from choregos.wire.instances import Phase


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with memory_world() as world, controllers(world):
        yield world


@pytest.fixture
async def node(world: World) -> AsyncIterator[SimNode]:
    async with SimNode(world, "node-a") as node:
        await world.until(lambda: world.condition("agentnodes", "node-a", "Ready") == "True")
        yield node


async def settled(world: World, name: str = "work") -> None:
    await world.until(
        lambda: (
            world.condition("agentsets", name, "Ready") == "True"
            and world.condition("agentsets", name, "Progressing") == "False"
        ),
        f"{name} is settled",
    )


async def test_a_set_becomes_ready_agents(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=3))
    await settled(world)
    assert world.ready() == {"work-0", "work-1", "work-2"}
    status = world.get("agentsets", "work")["status"]
    assert status["replicas"] == status["readyReplicas"] == status["updatedReplicas"] == 3
    assert status["availableReplicas"] == 3
    assert status["pendingReplicas"] == 0
    assert status["selector"] == "choregos.dev/set=work"
    assert all(one.record.node == "node-a" and one.record.binding == 1 for one in world.agents().values())
    await world.until(lambda: world.event_messages("SuccessfulCreate") == ["created 3 agents"])


async def test_scaling_takes_the_highest_ordinals_and_reuses_the_lowest(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=5))
    await settled(world)
    await world.change_spec("agentsets", "work", replicas=2)
    await world.until(lambda: set(world.agents()) == {"work-0", "work-1"})
    await settled(world)
    await world.delete_agent("work-0")
    await world.until(lambda: world.ready() == {"work-1", "work-2"})
    await world.change_spec("agentsets", "work", replicas=4)
    await world.until(lambda: world.ready() == {"work-0", "work-1", "work-2", "work-3"})


async def test_who_is_not_ready_goes_first(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=3))
    await settled(world)
    node.starts = False
    await world.change_spec("agentsets", "work", replicas=5)
    await world.until(lambda: len(world.agents()) == 5)
    await world.delete_agent("work-1")
    await world.until(lambda: "work-5" in world.agents())
    await world.change_spec("agentsets", "work", replicas=2)
    await world.until(lambda: set(world.agents()) == {"work-0", "work-2"})


async def test_a_deleted_agent_is_replaced_by_another(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=2))
    await settled(world)
    first = world.agents()["work-1"].record.uid
    await world.delete_agent("work-1")
    await world.until(lambda: len(world.ready()) == 2 and first not in {a.record.uid for a in world.agents().values()})


@pytest.mark.parametrize("how", ["asked for", "scaled away", "with their set"])
async def test_agents_that_leave_can_be_left_less_time_and_not_more(world: World, node: SimNode, how: str) -> None:
    await world.create("agentsets", agent_set(replicas=2, template={"terminationGracePeriodSeconds": 86_400}))
    await settled(world)
    node.stops = False
    match how:
        case "asked for":
            await world.delete_agent("work-0", 86_400)
            await world.delete_agent("work-1", 86_400)
        case "scaled away":
            await world.change_spec("agentsets", "work", replicas=0)
        case "with their set":
            await world.delete("agentsets", "work")
    leaving = ("work-0", "work-1")
    await world.until(lambda: all(world.agents()[name].record.deletion_ms for name in leaving))
    began = {name: world.agents()[name].record.deletion_ms for name in leaving}
    await world.pass_time(10)
    await world.delete_agent("work-0", 7)
    await world.until(lambda: world.agents()["work-0"].record.grace_s == 7)
    await world.delete_agent("work-0", 100)
    await world.pass_time(10)
    records = {name: world.agents()[name].record for name in leaving}
    assert {name: one.grace_s for name, one in records.items()} == {"work-0": 7, "work-1": 86_400}
    assert {name: one.deletion_ms for name, one in records.items()} == began


async def test_a_changed_template_replaces_agents_within_its_bounds(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=8, strategy={"maxSurge": 2, "maxUnavailable": 1}))
    await settled(world)
    before = {one.record.uid for one in world.agents().values()}
    least, most = 8, 8

    def look(_: object) -> None:
        nonlocal least, most
        least = min(least, len([one for one in world.directory.list() if one.ready]))
        most = max(most, len([one for one in world.directory.list() if not one.record.deletion_ms]))

    unsubscribe = world.directory.on_change(look)
    template = world.get("agentsets", "work")["spec"]["template"] | {"settings": {"version": 2}}
    await world.change_spec("agentsets", "work", template=template)
    await settled(world)
    unsubscribe()
    await world.until(lambda: len(world.agents()) == 8)
    assert before.isdisjoint({one.record.uid for one in world.agents().values()})
    assert len({one.record.template for one in world.agents().values()}) == 1
    assert least >= 7
    assert most <= 10


async def test_a_template_that_never_starts_leaves_the_old_agents_serving(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=8))
    await settled(world)
    node.starts = False
    template = world.get("agentsets", "work")["spec"]["template"] | {"settings": {"version": 2}}
    await world.change_spec("agentsets", "work", template=template)
    await world.pass_time(30)
    assert len(world.ready()) == 6
    assert world.message("agentsets", "work", "Progressing") == "Replacing: 6 agents are left of an earlier template"
    node.start_all()
    await settled(world)


async def test_a_deleted_set_goes_after_its_agents(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=3))
    await settled(world)
    await world.delete("agentsets", "work")
    gone: list[bool] = []
    world.resources.on_change(
        lambda changes: gone.extend(
            not world.agents() for change in changes if change.type == "DELETED" and change.resource == "agentsets"
        )
    )
    await world.until(lambda: world.get("agentsets", "work") is None)
    assert gone == [True]


async def test_agents_wait_for_a_node_and_say_why(world: World) -> None:
    await world.create("agentsets", agent_set(replicas=2))
    await world.until(lambda: len(world.agents()) == 2)
    assert {one.record.message for one in world.agents().values()} == {"no node is registered in this region"}
    await world.until(lambda: world.message("agentsets", "work").startswith("Unschedulable: 0 of 2"))
    async with SimNode(world, "node-a"):
        await settled(world)
        assert all(one.record.binding == 1 and not one.record.message for one in world.agents().values())


async def test_what_no_node_can_hold_stays_pending_with_the_nearest_fit(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=2, template={"resources": {"gpu": "1"}}))
    await world.until(lambda: world.message("agentsets", "work").startswith("Unschedulable"))
    assert world.message("agentsets", "work").endswith(
        "2 have no node: 0/1 nodes fit: 1 insufficient gpu (asked 1, most free 0 on node-a); "
        "nearest fit: node-a lacks 1 gpu"
    )
    assert world.get("agentsets", "work")["status"]["pendingReplicas"] == 2
    await world.until(lambda: "FailedScheduling" in world.reasons())
    async with SimNode(world, "node-g", {"cpu": "1", "memory": "1Gi", "gpu": "1", "agents": "10"}):
        await world.until(lambda: len(world.ready()) == 1)
        await world.delete_agent(next(iter(world.ready())))
        await world.until(lambda: len(world.ready()) == 1, timeout_s=20)


async def test_a_set_larger_than_a_batch_is_never_over_committed(world: World) -> None:
    async with AsyncExitStack() as stack:
        for name in "ab":
            await stack.enter_async_context(SimNode(world, name, {"cpu": "60", "memory": "800Gi", "agents": "10000"}))
        await world.until(lambda: world.condition("agentnodes", "b", "Ready") == "True")
        await world.create("agentsets", agent_set(replicas=1300))
        await world.until(lambda: len(world.ready()) == 1200)
        nodes = [one.record.node for one in world.agents().values()]
        assert {name: nodes.count(name) for name in set(nodes)} == {"a": 600, "b": 600, "": 100}


async def test_statuses_are_coalesced_and_the_last_one_is_written(world: World, node: SimNode) -> None:
    writes: list[int] = []
    world.resources.on_change(lambda changes: writes.extend(1 for change in changes if change.resource == "agentsets"))
    await world.create("agentsets", agent_set(replicas=2000, template={"resources": {"cpu": "1m", "memory": "1Mi"}}))
    await settled(world)
    assert world.get("agentsets", "work")["status"]["readyReplicas"] == 2000
    assert len(writes) <= 8


async def test_a_set_of_another_region_is_left_alone(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set("far", region="mars"))
    await world.create("agentsets", agent_set("near"))
    await settled(world, "near")
    assert {one.record.agent_set for one in world.agents().values()} == {"near"}
    assert world.get("agentsets", "far")["status"].get("conditions", []) == []


async def test_a_refused_agent_goes_to_another_node(world: World, node: SimNode) -> None:
    node.refuses = {"work-0"}
    async with SimNode(world, "node-b", {"cpu": "1", "memory": "1Gi", "agents": "10"}):
        await world.create("agentsets", agent_set(replicas=1))
        await settled(world)
        assert world.agents()["work-0"].record.node == "node-b"


async def test_templates_without_agents_and_sets_are_removed(world: World, node: SimNode) -> None:
    await world.create("agentsets", agent_set(replicas=1))
    await settled(world)
    old = set(world.directory.templates)
    template = world.get("agentsets", "work")["spec"]["template"] | {"settings": {"version": 2}}
    await world.change_spec("agentsets", "work", template=template)
    await settled(world)
    await world.pass_time(301)
    assert old.isdisjoint(world.directory.templates)
    assert len(world.directory.templates) == 1


async def test_one_template_that_cannot_be_removed_keeps_no_other(
    world: World, node: SimNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.create("agentsets", agent_set(replicas=1))
    await settled(world)
    for version in (2, 3):
        template = world.get("agentsets", "work")["spec"]["template"] | {"settings": {"version": version}}
        await world.change_spec("agentsets", "work", template=template)
        await settled(world)
    held = next(iter(world.directory.templates.values())).digest
    remove = InstanceWriter.remove_template

    async def refuse(writer: InstanceWriter, template: Template, fence: Fence) -> None:
        if template.digest == held:
            raise Conflict("deliberate")
        await remove(writer, template, fence)

    with monkeypatch.context() as patched:
        patched.setattr(InstanceWriter, "remove_template", refuse)
        await world.pass_time(301)
    assert {held} < {digest for _, digest in world.directory.templates}
    assert len(world.directory.templates) == 2
    await world.pass_time(301)
    assert len(world.directory.templates) == 1


async def test_phases_in_the_directory_are_those_of_the_node(world: World, node: SimNode) -> None:
    node.starts = False
    await world.create("agentsets", agent_set(replicas=1))
    await world.until(lambda: [one.phase for one in world.agents().values()] == [Phase.STARTING])
    await world.until(lambda: world.message("agentsets", "work", "Progressing") == "Starting: 1 agent is starting")
