"""An AgentCluster becomes sets and agents; status rolls up; deletion, ownership and namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from control_world import SimNode, World, agent_set, cluster, controllers, memory_world

from choregos.control.fleet.cluster_status import cluster_status
from choregos.control.fleet.namespaces import EVENTS_PER_PASS
from choregos.resources import meta
from choregos.resources.events import new_event
from choregos.store.resources import Change


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with memory_world() as world, controllers(world), SimNode(world, "node-a"):
        await world.until(lambda: world.condition("agentnodes", "node-a", "Ready") == "True")
        yield world


async def ready(world: World, name: str = "support") -> None:
    await world.until(
        lambda: (
            world.condition("agentclusters", name, "Ready") == "True"
            and world.condition("agentclusters", name, "Progressing") == "False"
        )
    )


async def test_a_cluster_becomes_ready_agents_and_says_so(world: World) -> None:
    await world.create("agentclusters", cluster(conversation=3, knowledge=2))
    await ready(world)
    status = world.get("agentclusters", "support")["status"]
    assert (status["agents"], status["readyAgents"]) == (5, 5)
    assert status["sets"] == [
        {"name": "support-conversation", "region": "local", "replicas": 3, "readyReplicas": 3},
        {"name": "support-knowledge", "region": "local", "replicas": 2, "readyReplicas": 2},
    ]
    assert world.message("agentclusters", "support") == "AllAgentsReady: 5 of 5 agents take calls"
    one = world.agents()["support-conversation-0"]
    assert one.labels["choregos.dev/cluster"] == "support"
    assert one.labels["choregos.dev/set"] == "support-conversation"


async def test_changes_of_the_manifest_reach_the_sets(world: World) -> None:
    await world.create("agentclusters", cluster(conversation=3, knowledge=2))
    await ready(world)
    await world.change_spec("agentclusters", "support", agents=[{"name": "knowledge", "replicas": 4}])
    await ready(world)
    await world.until(lambda: world.get("agentsets", "support-conversation") is None)
    assert world.ready() == {f"support-knowledge-{ordinal}" for ordinal in range(4)}


async def test_a_scaled_set_stays_scaled_until_the_manifest_says_otherwise(world: World) -> None:
    await world.create("agentclusters", cluster(knowledge=2))
    await ready(world)
    await world.change_spec("agentsets", "support-knowledge", replicas=3)
    await world.until(lambda: len(world.ready()) == 3)
    await world.until(lambda: world.get("agentclusters", "support")["status"]["readyAgents"] == 3)
    await world.change_spec("agentclusters", "support", agents=[{"name": "knowledge", "replicas": 1}])
    await world.until(lambda: len(world.agents()) == 1)


async def test_a_deleted_cluster_goes_last(world: World) -> None:
    await world.create("agentclusters", cluster(conversation=3, knowledge=2))
    await ready(world)
    order: list[str] = []
    world.resources.on_change(
        lambda changes: order.extend(
            change.resource
            for change in changes
            if change.type == "DELETED" and change.resource != "controllerrevisions"
        )
    )
    await world.delete("agentclusters", "support")
    await world.until(lambda: world.get("agentclusters", "support") is None)
    assert order == ["agentsets", "agentsets", "agentclusters"]
    assert not world.agents()


async def test_a_set_that_is_not_the_clusters_own_is_not_touched(world: World) -> None:
    await world.create("agentsets", agent_set("support-knowledge", replicas=1))
    await world.create("agentclusters", cluster(knowledge=2))
    await world.until(lambda: world.message("agentclusters", "support").startswith("NameTaken"))
    assert world.get("agentsets", "support-knowledge")["spec"]["replicas"] == 1


async def test_a_name_that_gets_free_is_taken_at_once(world: World) -> None:
    await world.create("agentclusters", cluster("a", **{"b-c": 1}))
    await ready(world, "a")
    await world.create("agentclusters", cluster("a-b", c=1))
    await world.until(lambda: world.message("agentclusters", "a-b").startswith("NameTaken"))
    await world.delete("agentclusters", "a")
    await world.until(lambda: world.get("agentclusters", "a") is None)
    gone_s = world.clock.monotonic()
    await world.until(lambda: world.get("agentsets", "a-b-c"))
    assert world.clock.monotonic() - gone_s < 1
    await ready(world, "a-b")
    assert world.get("agentsets", "a-b-c")["spec"]["cluster"] == "a-b"


async def drop_owners(world: World, name: str) -> None:
    agent_set = world.get("agentsets", name)
    metadata = {key: value for key, value in agent_set["metadata"].items() if key != "ownerReferences"}
    await world.resources.update("agentsets", {**agent_set, "metadata": metadata})


async def test_a_set_that_lost_its_owner_is_adopted_again(world: World) -> None:
    made = await world.create("agentclusters", cluster(knowledge=2))
    await ready(world)
    agents = {name: agent.record.uid for name, agent in world.agents().items()}
    await drop_owners(world, "support-knowledge")
    await world.until(lambda: owner_uids(world, "support-knowledge") == [made["metadata"]["uid"]])
    await ready(world)
    assert {name: agent.record.uid for name, agent in world.agents().items()} == agents
    told = "adopted agent set support-knowledge, which had no controller"
    await world.until(lambda: world.event_messages("SuccessfulAdopt") == [told])
    await world.delete("agentclusters", "support")
    await world.until(lambda: world.get("agentclusters", "support") is None)
    assert world.get("agentsets", "support-knowledge") is None
    assert not world.agents()


async def test_a_cluster_that_is_created_anew_adopts_what_was_left(world: World) -> None:
    await world.create("agentclusters", cluster(conversation=1, knowledge=2))
    await ready(world)
    agents = {name: agent.record.uid for name, agent in world.agents().items()}
    await world.delete("agentclusters", "support", finalizer="orphan")
    await world.until(lambda: world.get("agentclusters", "support") is None)
    anew = await world.create("agentclusters", cluster(knowledge=2))
    await ready(world)
    # What it does not declare goes, as after any other change of the manifest.
    await world.until(lambda: world.get("agentsets", "support-conversation") is None)
    assert owner_uids(world, "support-knowledge") == [anew["metadata"]["uid"]]
    left = {name: agent.record.uid for name, agent in world.agents().items()}
    assert left == {name: uid for name, uid in agents.items() if "knowledge" in name}


async def test_only_a_set_without_a_controller_is_adopted_and_its_other_owners_stay(world: World) -> None:
    node = await world.create("agentnodes", {"metadata": {"name": "owner"}, "spec": {}})
    reference = {"apiVersion": "choregos.dev/v1", "kind": "AgentNode", "name": "owner", "uid": node["metadata"]["uid"]}
    for name, controller in (("support-knowledge", False), ("support-search", True)):
        one = agent_set(name, replicas=1)
        one["spec"]["cluster"] = "support"
        one["metadata"]["ownerReferences"] = [{**reference, "controller": controller}]
        await world.create("agentsets", one)
    made = await world.create("agentclusters", cluster(knowledge=2, search=1))
    await world.until(lambda: "support-search" in world.message("agentclusters", "support"))
    assert world.message("agentclusters", "support").startswith("NameTaken")
    assert owner_uids(world, "support-knowledge") == [node["metadata"]["uid"], made["metadata"]["uid"]]
    assert owner_uids(world, "support-search") == [node["metadata"]["uid"]]
    await world.until(lambda: len(world.ready()) == 3)


def owner_uids(world: World, name: str) -> list[str]:
    return [owner["uid"] for owner in world.get("agentsets", name)["metadata"].get("ownerReferences") or ()]


async def test_a_set_whose_owner_vanished_is_deleted(world: World) -> None:
    owner = {"apiVersion": "choregos.dev/v1", "kind": "AgentCluster", "name": "ghost", "uid": "gone"}
    orphan = agent_set("orphan", replicas=1)
    orphan["metadata"]["ownerReferences"] = [owner]
    await world.create("agentsets", orphan)
    await world.until(lambda: world.get("agentsets", "orphan") is None)
    await world.until(lambda: not world.agents())


async def test_one_living_owner_is_enough(world: World) -> None:
    owner = await world.create("agentnodes", {"metadata": {"name": "owner"}, "spec": {}})
    owned = agent_set("owned", replicas=1)
    ghost = {"apiVersion": "choregos.dev/v1", "kind": "AgentCluster", "name": "ghost", "uid": "gone"}
    alive = {"apiVersion": "choregos.dev/v1", "kind": "AgentNode", "name": "owner", "uid": owner["metadata"]["uid"]}
    owned["metadata"]["ownerReferences"] = [ghost, alive]
    await world.create("agentsets", owned)
    await world.until(lambda: world.get("agentsets", "owned")["metadata"]["ownerReferences"] == [alive])
    await world.delete("agentnodes", "owner")
    await world.until(lambda: world.get("agentsets", "owned") is None)


async def test_orphaned_sets_stay(world: World) -> None:
    await world.create("agentclusters", cluster(knowledge=2))
    await ready(world)
    await world.delete("agentclusters", "support", finalizer="orphan")
    await world.until(lambda: world.get("agentclusters", "support") is None)
    await world.pass_time(5)
    assert "ownerReferences" not in world.get("agentsets", "support-knowledge")["metadata"]
    assert len(world.ready()) == 2


async def test_foreground_deletion_waits_for_dependents(world: World) -> None:
    await world.create("agentclusters", cluster(knowledge=2))
    await ready(world)
    await world.delete("agentclusters", "support", finalizer="foregroundDeletion")
    await world.until(lambda: world.get("agentclusters", "support") is None)
    assert world.get("agentsets", "support-knowledge") is None


async def test_a_deleted_namespace_is_emptied_first(world: World) -> None:
    namespace = {"metadata": {"name": "default", "finalizers": ["kubernetes"]}, "spec": {}}
    await world.create("namespaces", namespace)
    await world.create("agentclusters", cluster(knowledge=2))
    await ready(world)
    await world.delete("namespaces", "default")
    await world.until(lambda: world.get("namespaces", "default") is None)
    assert not world.list("agentclusters")
    assert not world.list("agentsets")
    assert not world.agents()


async def test_a_namespace_says_what_it_waits_for(world: World) -> None:
    namespace = {"metadata": {"name": "default", "finalizers": ["kubernetes", "ours"]}, "spec": {}}
    await world.create("namespaces", namespace)
    for number in range(2):
        await world.create("configmaps", {"metadata": {"name": f"held-{number}", "finalizers": ["x/held"]}})
    await world.create("configmaps", {"metadata": {"name": "free"}})
    await world.delete("namespaces", "default")

    def told(type: str) -> tuple[str, str, str]:
        found = meta.condition(world.get("namespaces", "default"), type) or {}
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    remaining = "Some resources are remaining: configmaps has 2 resource instances"
    await world.until(lambda: told("NamespaceContentRemaining") == ("True", "SomeResourcesRemain", remaining))
    finalizers = "Some content in the namespace has finalizers remaining: x/held in 2 resource instances"
    assert told("NamespaceFinalizersRemaining") == ("True", "SomeFinalizersRemain", finalizers)
    since = world.get("namespaces", "default")["status"]["conditions"][0]["lastTransitionTime"]
    revision = world.get("namespaces", "default")["metadata"]["resourceVersion"]
    await world.pass_time(5)
    assert world.get("namespaces", "default")["metadata"]["resourceVersion"] == revision, "nothing new is not written"
    await world.resources.delete("configmaps", world.get("configmaps", "held-0"))
    one = remaining.replace("2", "1")
    await world.until(lambda: told("NamespaceContentRemaining")[2] == one)
    assert world.get("namespaces", "default")["status"]["conditions"][0]["lastTransitionTime"] == since
    await world.resources.delete("configmaps", world.get("configmaps", "held-1"))
    await world.until(lambda: world.get("namespaces", "default")["metadata"]["finalizers"] == ["ours"])
    assert told("NamespaceContentRemaining")[:2] == ("False", "ContentRemoved")
    assert told("NamespaceFinalizersRemaining")[:2] == ("False", "ContentHasNoFinalizers")
    assert world.get("namespaces", "default")["status"]["phase"] == "Terminating"


def event(name: str, namespace: str) -> dict[str, Any]:
    involved = {"kind": "Wheel", "name": name, "namespace": namespace}
    return new_event(involved, "Told", "of a tenant", now_ms=0, component="test")


def told(world: World, namespace: str) -> int:
    return len(world.events.list("events", namespace).items)


async def test_events_go_with_their_namespace_and_do_not_come_back(world: World) -> None:
    for name in ("gone", "kept"):
        await world.create("namespaces", {"metadata": {"name": name, "finalizers": ["kubernetes"]}})
        for number in range(EVENTS_PER_PASS + 3):
            await world.events.create("events", event(f"wheel-{number}", name))
    held = {"metadata": {"name": "held", "namespace": "gone", "finalizers": ["x/held"]}}
    await world.create("configmaps", held)
    await world.delete("namespaces", "gone")
    await world.pass_time(5)
    assert told(world, "gone") == EVENTS_PER_PASS + 3, "until the end somebody may want to read them"
    await world.resources.delete("configmaps", world.get("configmaps", "held"))
    await world.until(lambda: world.get("namespaces", "gone") is None)
    assert told(world, "gone") == 0
    await world.events.create("events", event("late", "gone"))
    await world.until(lambda: told(world, "gone") == 0)
    await world.create("namespaces", {"metadata": {"name": "gone", "finalizers": ["kubernetes"]}})
    await world.events.create("events", event("new", "gone"))
    await world.pass_time(5)
    assert told(world, "gone") == 1
    assert told(world, "kept") == EVENTS_PER_PASS + 3


async def test_events_that_came_while_nobody_led_go_too() -> None:
    async with memory_world() as world:
        for name in ("gone", "default"):
            await world.events.create("events", event("late", name))
        async with controllers(world):
            await world.until(lambda: told(world, "gone") == 0)
            assert told(world, "default") == 1, "it is where things without a namespace are told of"


async def test_a_namespace_says_what_it_waits_for_before_anything_is_deleted(world: World) -> None:
    await world.create("namespaces", {"metadata": {"name": "large", "finalizers": ["kubernetes"]}})
    for number in range(20):
        await world.create("configmaps", {"metadata": {"name": f"one-{number}", "namespace": "large"}})
    seen: list[str] = []

    def note(changes: Sequence[Change]) -> None:
        for change in changes:
            if change.resource == "namespaces":
                found = meta.condition(change.object, "NamespaceContentRemaining") or {}
                seen.append(found.get("message", ""))
            elif change.resource == "configmaps":
                seen.append("deleted")

    world.resources.on_change(note)
    await world.delete("namespaces", "large")
    await world.until(lambda: world.get("namespaces", "large") is None)
    before = seen[: seen.index("deleted")]
    assert "configmaps has 20 resource instances" in before[-1]


def test_a_set_judged_at_an_older_generation_does_not_count_as_ready() -> None:
    at = {"now_ms": 0, "generation": 1}
    conditions = meta.set_condition((), "Ready", True, "AllAgentsReady", "3 of 3", **at)
    conditions = meta.set_condition(conditions, "Progressing", False, "Complete", "", **at)
    one = {
        "metadata": {"name": "a-b", "generation": 2},
        "spec": {"region": "local", "replicas": 5},
        "status": {"readyReplicas": 3, "conditions": conditions},
    }
    owner = {"metadata": {"name": "a", "generation": 7}}
    status = cluster_status(owner, [one], [], 0)
    verdicts = {entry["type"]: (entry["status"], entry["message"]) for entry in status["conditions"]}
    assert verdicts["Ready"] == ("False", "3 of 5 agents take calls; region local has not answered for a-b yet")
    assert verdicts["Progressing"][0] == "True"
    one["metadata"]["generation"] = 1
    assert meta.is_true({"status": cluster_status(owner, [one], [], 0)}, "Ready")
