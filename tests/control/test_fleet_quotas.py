"""What a quota says of its namespace is true again after everything that no API server has written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from control_world import REGION, SimNode, World, agent_set, cluster, controllers, memory_world

from choregos.control.fleet.quotas import QuotaReconciler
from choregos.control.objects import FencedObjects
from choregos.store.port import Fence
from choregos.store.resources import Change
from choregos.store.watch import ChangeType

SETS_COUNTED = "count/agentsets.choregos.dev"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with memory_world() as world:
        yield world


def quota(**hard: str) -> dict[str, Any]:
    return {"metadata": {"name": "bound"}, "spec": {"hard": hard}}


def status(world: World, name: str = "bound") -> dict[str, Any]:
    found = world.get("resourcequotas", name)
    assert found is not None
    return dict(found["status"])


async def until_used(world: World, **used: str) -> None:
    await world.until(lambda: status(world).get("used") == used, f"used is {used}")


async def test_a_quota_learns_what_is_there_and_what_changes(world: World) -> None:
    await world.create("agentclusters", cluster(chat=3))
    await world.create("resourcequotas", quota(agents="10", cpu="1"))
    async with controllers(world), SimNode(world, "n1"):
        await until_used(world, agents="3", cpu="30m")
        assert status(world)["hard"] == {"agents": "10", "cpu": "1"}
        await world.change_spec("agentclusters", "support", agents=[{"name": "chat", "replicas": 2}])
        await until_used(world, agents="2", cpu="20m")
        await world.create("agentsets", agent_set("own", 4))
        await until_used(world, agents="6", cpu="420m")
        await world.until(lambda: len(world.ready()) == 6)
        await world.delete("agentsets", "own", "choregos.dev/agents")
        await until_used(world, agents="2", cpu="20m")
        await world.delete("agentclusters", "support", "choregos.dev/agents")
        await until_used(world, agents="0", cpu="0")


async def test_a_changed_limit_is_in_force(world: World) -> None:
    await world.create("agentclusters", cluster(chat=3))
    await world.create("resourcequotas", quota(agents="10"))
    async with controllers(world):
        await until_used(world, agents="3")
        await world.change_spec("resourcequotas", "bound", hard={"pods": "1", SETS_COUNTED: "0"})
        await until_used(world, **{SETS_COUNTED: "1", "pods": "3"})
        assert status(world)["hard"] == {"pods": "1", SETS_COUNTED: "0"}


async def test_a_status_that_somebody_wrote_is_made_true(world: World) -> None:
    await world.create("resourcequotas", quota(agents="10"))
    async with controllers(world):
        await until_used(world, agents="0")
        found = world.get("resourcequotas", "bound")
        assert found is not None
        await world.resources.update("resourcequotas", {**found, "status": {"used": {"agents": "7"}}})
        await until_used(world, agents="0")


async def test_what_has_settled_is_not_written_again(world: World) -> None:
    await world.create("resourcequotas", quota(agents="10", configmaps="3"))
    async with controllers(world), SimNode(world, "n1"):
        await world.create("agentclusters", cluster(chat=3))
        await world.until(lambda: world.condition("agentclusters", "support", "Ready") == "True")
        await until_used(world, agents="3", configmaps="0")
        before = world.get("resourcequotas", "bound")
        await world.pass_time(600.0)
        assert world.get("resourcequotas", "bound") is before


async def test_only_what_can_make_a_difference_is_looked_at(world: World) -> None:
    await world.create("resourcequotas", quota(agents="10", configmaps="3"))
    never = Fence("al.fleet.fleet.fence", "al.fleet.fleet.epoch", 0)  # nothing is written
    reconciler = QuotaReconciler(FencedObjects(world.resources, never, world.clock, world.ids), world.clock)
    old = await world.create("agentsets", agent_set("own", 4))

    def wakes(resource: str, obj: dict[str, Any], previous: dict[str, Any] | None, type: ChangeType) -> list[str]:
        return [str(key) for key in reconciler.concerned(Change(type, resource, obj, previous, 1, 0))]

    woken = ["default/bound"]
    assert wakes("agentsets", old, None, ChangeType.ADDED) == woken
    assert wakes("agentsets", {**old, "status": {"replicas": 3}}, old, ChangeType.MODIFIED) == []
    assert wakes("agentsets", agent_set("own", 5) | {"metadata": old["metadata"]}, old, ChangeType.MODIFIED) == woken
    assert wakes("agentsets", old, old, ChangeType.DELETED) == woken
    config = {"metadata": {"name": "c", "namespace": "default"}, "data": {}}
    assert wakes("configmaps", config, None, ChangeType.ADDED) == woken
    assert wakes("configmaps", {**config, "data": {"a": "b"}}, config, ChangeType.MODIFIED) == []
    assert wakes("secrets", config, None, ChangeType.ADDED) == []
    elsewhere = {**old, "metadata": {**old["metadata"], "namespace": "other"}}
    assert wakes("agentsets", elsewhere, None, ChangeType.ADDED) == []
    assert wakes("agentnodes", {"metadata": {"name": REGION}}, None, ChangeType.ADDED) == []
    assert list(map(str, reconciler.keys())) == woken


async def test_what_runs_counts_where_it_is_more_than_is_declared(world: World) -> None:
    await world.create("resourcequotas", quota(agents="5", cpu="1"))
    async with controllers(world), SimNode(world, "n1") as node:
        await world.create("agentsets", agent_set("own", 4, strategy={"maxSurge": 1, "maxUnavailable": 0}))
        await world.until(lambda: len(world.ready()) == 4)
        await until_used(world, agents="4", cpu="400m")
        # A rollout that does not end.
        node.starts = False
        template = world.get("agentsets", "own")["spec"]["template"]
        await world.change_spec("agentsets", "own", template={**template, "resources": {"cpu": "1m"}})
        await until_used(world, agents="5", cpu="401m")
        # Agents that do not end.
        node.stops = False
        await world.change_spec("agentsets", "own", replicas=0)
        await world.pass_time(10)
        await until_used(world, agents="5", cpu="401m")
        await world.delete("agentsets", "own", "choregos.dev/agents")
        await world.pass_time(10)
        await until_used(world, agents="5", cpu="401m")
        node.stop_all()
        await until_used(world, agents="0", cpu="0")


async def test_a_quota_is_looked_at_a_few_times_a_second_at_most(world: World) -> None:
    written: list[float] = []

    def look(changes: Sequence[Change]) -> None:
        written.extend(world.clock.monotonic() for change in changes if change.resource == "resourcequotas")

    async with controllers(world):
        await world.create("resourcequotas", quota(configmaps="99"))
        await until_used(world, configmaps="0")
        world.resources.on_change(look)
        for number in range(50):
            await world.resources.create(
                "configmaps", {"metadata": {"name": f"c{number}", "namespace": "default", "uid": f"u{number}"}}
            )
            await world.pass_time(0.02)
        await until_used(world, configmaps="50")
    assert len(written) <= 8


async def test_a_set_scaled_by_itself_and_deleted_comes_back_within_what_was_counted(world: World) -> None:
    """The fleet writes past the quota; so nothing that it does may need more than was admitted."""
    await world.create("resourcequotas", quota(agents="5"))
    highest: list[int] = []

    def look(_: object) -> None:
        found = world.get("resourcequotas", "bound")
        highest.append(int(((found or {}).get("status") or {}).get("used", {}).get("agents", 0)))

    async with controllers(world), SimNode(world, "n1"):
        await world.create("agentclusters", cluster(chat=5))
        await world.until(lambda: len(world.ready()) == 5)
        await until_used(world, agents="5")
        world.resources.on_change(look)
        await world.change_spec("agentsets", "support-chat", replicas=1)
        await world.until(lambda: len(world.agents()) == 1)
        await world.delete("agentsets", "support-chat", "choregos.dev/agents")
        await world.until(lambda: len(world.ready()) == 5, "it comes back")
    assert set(highest) == {5}
