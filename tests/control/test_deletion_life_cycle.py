"""A deletion ends: what is held is held before there is anything to hold it for, and by nobody who never comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from control_world import SimNode, World, agent_set, controllers, memory_world

from choregos.control.events import EventRecorder
from choregos.control.fleet.abandoned import PATIENCE_S
from choregos.control.fleet.controller import FleetController, FleetStores
from choregos.resources import meta
from choregos.store.leases.election import LeaderElection
from choregos.store.port import Fence, Write
from choregos.store.resources import ResourceStore

UNSERVED = {
    "metadata": {"name": "support", "finalizers": [meta.AGENTS_FINALIZER]},
    "spec": {
        "resource_management": {"worker_agent": {"cpu": "100m"}},
        "regions": [{"name": "mars", "agent_distribution": {"workers": 2}}],
    },
}
GRACE_S = 30


@asynccontextmanager
async def fleet_alone(world: World) -> AsyncIterator[None]:
    """The fleet's controllers, and nobody who controls the region."""
    clock, ids = world.clock, world.ids
    async with (
        ResourceStore(world.logs[0], clock) as resources,
        ResourceStore(world.logs[2], clock) as events,
        EventRecorder(events, clock, ids, "fleet") as recorder,
        FleetController(
            FleetStores(resources, recorder, events),
            LeaderElection(world.logs[0], "fleet", "fleet", "f", clock),
            clock,
            ids,
        ),
    ):
        yield


async def node_ready(world: World) -> None:
    await world.until(lambda: world.condition("agentnodes", "node-a", "Ready") == "True")


async def test_a_set_is_held_before_its_first_agent_exists() -> None:
    async with memory_world() as world:
        log = world.logs[1]
        held: list[Any] = []
        append_batch = log.append_batch

        async def watched(writes: Sequence[Write], *, fence: Fence | None = None) -> Sequence[int]:
            if any(write.subject.startswith("a.") for write in writes):
                last = await world.logs[0].last("o.agentsets.default.work")
                assert last is not None
                held.append(msgspec.json.decode(last.data)["metadata"].get("finalizers"))
            return await append_batch(writes, fence=fence)

        log.append_batch = watched  # type: ignore[method-assign]
        async with controllers(world):
            await world.create("agentsets", agent_set(replicas=2))
            await world.until(lambda: len(world.agents()) == 2)
        assert held
        assert all(finalizers == [meta.AGENTS_FINALIZER] for finalizers in held)


async def test_a_set_that_no_region_has_taken_goes_at_once_and_its_cluster_with_it() -> None:
    async with memory_world() as world, controllers(world):
        await world.create("agentclusters", UNSERVED)
        await world.until(lambda: len(world.list("agentsets")) == 1)
        assert "region mars has not answered" in await world.until(lambda: world.message("agentclusters", "support"))
        await world.delete("agentclusters", "support")
        await world.until(lambda: world.get("agentclusters", "support") is None, timeout_s=2)
        assert not world.list("agentsets")


async def test_a_cluster_whose_region_is_gone_goes_too_and_says_meanwhile_what_it_waits_for() -> None:
    async with memory_world() as world, controllers(world):
        await world.create("agentclusters", UNSERVED)
        taken = await world.until(lambda: world.list("agentsets"))
        await world.resources.update("agentsets", meta.with_finalizer(taken[0], meta.AGENTS_FINALIZER))
        await world.delete("agentclusters", "support")
        await world.until(lambda: world.message("agentclusters", "support").startswith("Deleting"))
        assert world.message("agentclusters", "support") == (
            "Deleting: waits for its sets to go; "
            "region mars has not answered for the deletion of support-worker-mars yet"
        )
        await world.pass_time(GRACE_S + PATIENCE_S - 5)
        assert world.get("agentclusters", "support") is not None
        await world.until(lambda: world.get("agentclusters", "support") is None, timeout_s=10)
        await world.until(lambda: "Abandoned" in world.reasons())


async def test_agents_of_a_set_that_is_gone_are_given_no_time_whatever_they_were_given() -> None:
    """No quota counts them, so whoever may take finalizers off could have any number of them drain for a day."""
    async with memory_world() as world, controllers(world), SimNode(world, "node-a") as node:
        await node_ready(world)
        await world.create("agentsets", agent_set(replicas=2, template={"terminationGracePeriodSeconds": 86_400}))
        await world.until(lambda: len(world.ready()) == 2)
        node.stops = False
        await world.delete_agent("work-0", 86_400)
        await world.until(lambda: world.agents()["work-0"].record.grace_s == 86_400)
        held = world.get("agentsets", "work")
        await world.resources.delete("agentsets", {**held, "metadata": {**held["metadata"], "finalizers": []}})
        left = ("work-0", "work-1")
        await world.until(lambda: all(world.agents()[name].record.deletion_ms for name in left))
        await world.until(lambda: [world.agents()[name].record.grace_s for name in left] == [0, 0])
        node.stop_all()
        await world.until(lambda: not world.agents())


async def test_agents_of_a_set_that_was_let_go_are_ended_when_somebody_controls_their_region_again() -> None:
    async with memory_world() as world, SimNode(world, "node-a"):
        async with controllers(world):
            await node_ready(world)
            await world.create("agentsets", agent_set(replicas=3))
            await world.until(lambda: len(world.ready()) == 3)
        async with fleet_alone(world):
            await world.delete("agentsets", "work")
            await world.until(lambda: world.get("agentsets", "work") is None, timeout_s=GRACE_S + PATIENCE_S + 30)
        assert len(world.ready()) == 3
        async with controllers(world):
            await world.until(lambda: not world.agents())


async def test_a_region_that_drains_is_given_its_time() -> None:
    async with memory_world() as world, controllers(world), SimNode(world, "node-a") as node:
        await node_ready(world)
        await world.create("agentsets", agent_set(replicas=2, template={"terminationGracePeriodSeconds": 120}))
        await world.until(lambda: len(world.ready()) == 2)
        node.stops = False
        await world.delete("agentsets", "work")
        await world.pass_time(150)
        assert world.message("agentsets", "work") == "Deleting: 2 agents are left, 0 take calls"
        assert world.message("agentsets", "work", "Progressing") == "Removing: 2 agents are leaving"
        node.stop_all()
        await world.until(lambda: world.get("agentsets", "work") is None)
        assert not world.agents()
        assert "Abandoned" not in world.reasons()


async def test_agents_of_a_lost_node_and_of_none_hold_nothing_up() -> None:
    async with memory_world() as world, controllers(world):
        async with SimNode(world, "node-a") as node:
            await node_ready(world)
            await world.create("agentsets", agent_set(replicas=2))
            await world.create("agentsets", agent_set("large", replicas=2, template={"resources": {"cpu": "64"}}))
            await world.until(lambda: len(world.ready()) == 2 and len(world.agents()) == 4)
            node.stops = False
            for name in ("work", "large"):
                await world.delete("agentsets", name)
            await world.until(lambda: world.get("agentsets", "large") is None, timeout_s=5)
        await world.until(lambda: world.get("agentsets", "work") is None, timeout_s=50)
        assert "Abandoned" not in world.reasons()
