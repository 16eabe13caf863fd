"""The templates of a set are kept as revisions; rollouts are taken back, paused, repeated, and told to have failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from control_world import SimNode, World, agent_set, cluster, controllers, memory_world

from choregos.control.region.set_status import SetFigures, progress_deadline_ms, set_status
from choregos.resources import meta
from choregos.scheduling import revisions
from choregos.scheduling.rollout import Counts
from choregos.wire.instances import Phase

CAUSE = "kubernetes.io/change-cause"


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


def history(world: World, name: str = "work") -> dict[Any, int]:
    """Version in the settings → number."""
    found = world.list("controllerrevisions")
    of_set = [one for one in found if one["metadata"]["labels"]["choregos.dev/set"] == name]
    return {revisions.template_of(one).get("settings", {}).get("version"): one["revision"] for one in of_set}


async def declare(world: World, version: int, name: str = "work", **spec: Any) -> None:
    found = world.get("agentsets", name)
    assert found is not None
    template = found["spec"]["template"] | {"settings": {"version": version}}
    await world.change_spec("agentsets", name, template=template, **spec)


def versions(world: World) -> list[Any]:
    return sorted(one.template.spec.get("settings", {}).get("version") for one in world.agents().values())


async def made(world: World, replicas: int = 3, **spec: Any) -> None:
    await world.create("agentsets", agent_set(replicas=replicas, template={"settings": {"version": 1}}, **spec))
    await settled(world)


async def test_each_template_is_a_revision_and_one_that_comes_back_is_the_newest(world: World, node: SimNode) -> None:
    await made(world)
    assert history(world) == {1: 1}
    for version, expected in ((2, {1: 1, 2: 2}), (1, {2: 2, 1: 3}), (3, {2: 2, 1: 3, 3: 4})):
        await declare(world, version)
        await settled(world)
        assert history(world) == expected
        assert versions(world) == [version] * 3
    assert world.get("agentsets", "work")["status"]["updatedReplicas"] == 3


async def test_a_changed_count_is_no_revision(world: World, node: SimNode) -> None:
    await made(world)
    (before,) = world.list("controllerrevisions")
    await world.change_spec("agentsets", "work", replicas=5)
    await settled(world)
    assert world.list("controllerrevisions") == [before]


async def test_the_oldest_that_no_agent_has_go(world: World, node: SimNode) -> None:
    await made(world, revisionHistoryLimit=2)
    for version in (2, 3, 4, 5):
        await declare(world, version)
        await settled(world)
    await world.until(lambda: history(world) == {3: 3, 4: 4, 5: 5})
    await world.change_spec("agentsets", "work", revisionHistoryLimit=0)
    await world.until(lambda: history(world) == {5: 5})


async def test_what_agents_are_made_from_is_kept_whatever_the_limit(world: World, node: SimNode) -> None:
    await made(world, revisionHistoryLimit=0)
    node.starts = False
    await declare(world, 2)
    await world.until(lambda: set(versions(world)) == {1, 2})
    await declare(world, 3)
    await world.until(lambda: 3 in versions(world))
    assert history(world).keys() == set(versions(world)) == {1, 3}
    node.start_all()
    await settled(world)
    await world.until(lambda: history(world) == {3: 3})


async def test_a_revision_that_is_in_use_comes_back(world: World, node: SimNode) -> None:
    await made(world)
    await declare(world, 2)
    await settled(world)
    name = next(one["metadata"]["name"] for one in world.list("controllerrevisions") if one["revision"] == 2)
    await world.delete("controllerrevisions", name)
    await world.until(lambda: history(world) == {1: 1, 2: 2})


async def test_revisions_of_a_set_that_is_made_anew_are_its_own(world: World, node: SimNode) -> None:
    await made(world)
    (before,) = world.list("controllerrevisions")
    await world.delete("agentsets", "work")
    await world.until(lambda: world.get("agentsets", "work") is None)
    await made(world)
    await world.until(lambda: world.agents() and world.list("controllerrevisions"))
    await world.pass_time(5)
    (after,) = world.list("controllerrevisions")
    assert after["metadata"]["name"] == before["metadata"]["name"]
    owners = [reference["uid"] for reference in after["metadata"]["ownerReferences"]]
    assert owners == [world.get("agentsets", "work")["metadata"]["uid"]]


async def test_the_cause_of_a_change_is_kept(world: World, node: SimNode) -> None:
    manifest = cluster(knowledge=1)
    manifest["metadata"]["annotations"] = {CAUSE: "first"}
    await world.create("agentclusters", manifest)
    await settled(world, "support-knowledge")
    found = world.get("agentclusters", "support")
    changed = {**found, "spec": {"agents": [{"name": "knowledge", "settings": {"version": 2}}]}}
    changed["metadata"] = {**found["metadata"], "annotations": {CAUSE: "second"}, "generation": 2}
    await world.resources.update("agentclusters", changed)
    await world.until(lambda: history(world, "support-knowledge") == {None: 1, 2: 2})
    causes = {one["revision"]: meta.change_cause(one) for one in world.list("controllerrevisions")}
    assert causes == {1: "first", 2: "second"}


async def test_a_restart_replaces_all_agents_within_bounds_and_is_no_revision(world: World, node: SimNode) -> None:
    await made(world, 4, strategy={"maxSurge": 1, "maxUnavailable": 0})
    before = {one.record.uid for one in world.agents().values()}
    digest = world.get("agentsets", "work")["status"]["templateDigest"]
    least = 4

    def look(_: object) -> None:
        nonlocal least
        least = min(least, len(world.ready()))

    world.directory.on_change(look)
    await world.change_spec("agentsets", "work", restartedAt="2026-11-22T18:59:07Z")
    await settled(world)
    assert before.isdisjoint({one.record.uid for one in world.agents().values()})
    assert least == 4
    assert history(world) == {1: 1}
    assert world.get("agentsets", "work")["status"]["templateDigest"] != digest
    await declare(world, 2)
    await settled(world)
    await declare(world, 1)
    await settled(world)
    assert history(world) == {2: 2, 1: 3}


async def test_a_restart_of_a_clusters_set_is_kept_by_its_cluster(world: World, node: SimNode) -> None:
    await world.create("agentclusters", cluster(knowledge=2))
    await settled(world, "support-knowledge")
    before = {one.record.uid for one in world.agents().values()}
    await world.change_spec("agentsets", "support-knowledge", restartedAt="2026-11-22T18:59:07Z")
    await settled(world, "support-knowledge")
    after = {one.record.uid for one in world.agents().values()}
    assert before.isdisjoint(after)
    await world.change_spec("agentclusters", "support", agents=[{"name": "knowledge", "replicas": 3}])
    await world.until(lambda: len(world.ready()) == 3)
    assert after < {one.record.uid for one in world.agents().values()}


async def test_a_paused_set_keeps_its_count_and_its_template(world: World, node: SimNode) -> None:
    await made(world)
    await declare(world, 2, paused=True)
    await world.until(lambda: world.message("agentsets", "work", "Progressing").startswith("Paused: 3 agents"))
    assert world.message("agentsets", "work").startswith("Paused: 3 of 3 agents take calls")
    assert world.get("agentsets", "work")["status"]["updatedReplicas"] == 0
    await world.change_spec("agentsets", "work", replicas=5)
    await world.until(lambda: len(world.ready()) == 5)
    await world.delete_agent("work-0")
    await world.until(lambda: world.ready() == {f"work-{number}" for number in range(1, 6)})
    await world.change_spec("agentsets", "work", replicas=0)
    await world.until(lambda: not world.agents())
    await world.pass_time(301)  # the template that nobody has now is needed again
    await world.change_spec("agentsets", "work", replicas=2)
    await world.until(lambda: len(world.ready()) == 2)
    assert versions(world) == [1, 1]
    assert history(world) == {1: 1}
    await declare(world, 3)
    await world.change_spec("agentsets", "work", paused=False)
    await settled(world)
    assert versions(world) == [3, 3]
    assert history(world) == {1: 1, 3: 2}


async def test_a_rollout_paused_on_its_way_stands_still_and_goes_on(world: World, node: SimNode) -> None:
    await made(world, 8)
    node.starts = False
    await declare(world, 2)
    await world.until(lambda: versions(world) == [1] * 6 + [2] * 4)
    await world.change_spec("agentsets", "work", paused=True)
    node.start_all()
    await world.until(lambda: len(world.ready()) == 10)
    await world.pass_time(5)
    assert versions(world) == [1] * 6 + [2] * 4
    await world.change_spec("agentsets", "work", replicas=12)
    await world.until(lambda: len(world.ready()) == 12)
    assert versions(world) == [1] * 6 + [2] * 6
    await world.change_spec("agentsets", "work", paused=False)
    await settled(world)
    assert versions(world) == [2] * 12


async def test_a_rollout_without_progress_is_told_to_have_failed_until_it_gets_further(
    world: World, node: SimNode
) -> None:
    await world.create("agentclusters", cluster(knowledge=4))
    await settled(world, "support-knowledge")
    node.fails = {f"support-knowledge-{number}": (Phase.BACKOFF, "ImportFailed", "no module") for number in range(9)}
    template = {"name": "knowledge", "replicas": 4, "settings": {"version": 2}, "progressDeadlineSeconds": 60}
    await world.change_spec("agentclusters", "support", agents=[template])
    await world.pass_time(50)
    assert world.message("agentsets", "support-knowledge", "Progressing").startswith("Replacing")
    reason = "ProgressDeadlineExceeded: no progress for 60 s; 3 agents are left of an earlier template"
    await world.until(lambda: world.message("agentsets", "support-knowledge", "Progressing") == reason, timeout_s=30)
    assert world.condition("agentsets", "support-knowledge", "Progressing") == "False"
    await world.until(
        lambda: world.message("agentclusters", "support", "Progressing").startswith("ProgressDeadlineExceeded")
    )
    await world.until(lambda: len(world.event_messages("ProgressDeadlineExceeded")) == 2)
    assert len(world.ready()) >= 3
    node.start_all()
    await settled(world, "support-knowledge")
    assert "lastProgressTime" not in world.get("agentsets", "support-knowledge")["status"]


async def test_the_deadline_is_kept_over_a_change_of_leaders() -> None:
    async with memory_world() as world, SimNode(world, "node-a") as node:
        node.starts = False
        async with controllers(world):
            await world.create("agentsets", agent_set(progressDeadlineSeconds=100))
            await world.until(lambda: len(world.agents()) == 3)
            await world.pass_time(60)
        async with controllers(world):
            await world.until(
                lambda: world.message("agentsets", "work", "Progressing").startswith("ProgressDeadlineExceeded"),
                timeout_s=60,
            )


async def test_agents_that_fail_after_a_complete_rollout_are_no_failed_rollout(world: World, node: SimNode) -> None:
    await made(world, progressDeadlineSeconds=60)
    node.fails = {"work-3": (Phase.BACKOFF, "Crashed", "gone")}
    await world.delete_agent("work-0")
    await world.until(lambda: world.message("agentsets", "work", "Progressing").startswith("Failing"))
    await world.pass_time(100)
    assert world.message("agentsets", "work", "Progressing").startswith("Failing")


BEFORE = {
    "templateDigest": "d2",
    "replicas": 4,
    "updatedReplicas": 2,
    "availableReplicas": 1,
    "observedGeneration": 3,
    "lastProgressTime": "1970-01-01T00:00:10.000000Z",
}
AT_20_S = "1970-01-01T00:00:20.000000Z"


@pytest.mark.parametrize(
    ("change", "counts", "expected"),
    [
        ({}, Counts(1, 1, 2, 0), BEFORE["lastProgressTime"]),
        ({}, Counts(0, 2, 2, 0), BEFORE["lastProgressTime"]),
        ({}, Counts(1, 2, 2, 0), AT_20_S),
        ({}, Counts(2, 0, 2, 0), AT_20_S),
        ({}, Counts(1, 1, 1, 0), AT_20_S),
        ({}, Counts(3, 0, 0, 0), None),
        ({}, Counts(3, 0, 0, 1), AT_20_S),
        ({"templateDigest": "d1"}, Counts(0, 0, 4, 0), AT_20_S),
        ({"templateDigest": "d1"}, Counts(3, 0, 0, 0), None),
        ({"observedGeneration": 2}, Counts(1, 1, 2, 0), AT_20_S),
        ({"lastProgressTime": None}, Counts(1, 1, 0, 0), None),
        ({"lastProgressTime": None, "templateDigest": None}, Counts(1, 1, 0, 0), AT_20_S),
    ],
)
def test_what_counts_as_progress(change: dict[str, Any], counts: Counts, expected: str | None) -> None:
    declared = {
        "metadata": {"name": "work", "generation": 3},
        "spec": {"replicas": 3, "region": "local", "progressDeadlineSeconds": 30, "template": {}},
        "status": {**BEFORE, **change},
    }
    status = set_status(declared, SetFigures("d2", counts), 20_000)
    assert status.get("lastProgressTime") == expected
    deadline_ms = None if expected is None else (50_000 if expected == AT_20_S else 40_000)
    assert progress_deadline_ms(declared, status) == deadline_ms
    assert progress_deadline_ms({**declared, "spec": {**declared["spec"], "paused": True}}, status) is None
