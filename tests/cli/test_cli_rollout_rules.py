"""How far a rollout is, which revision is meant, and the manifest that declares it again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choregos.cli.rollout.progress import Progress, cluster_progress, set_progress
from choregos.cli.rollout.undoing import chosen, undone_cluster, undone_set
from choregos.foundation.errors import NotFound, Permanent
from choregos.resources import meta
from choregos.resources.expansion import agent_sets
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.validation import validate
from choregos.scheduling.revisions import revision_of

WAITING = 'Waiting for agentset "work" rollout to finish: '


def agent_set(replicas: int = 5, **changes: Any) -> dict[str, Any]:
    """All as declared, but for the changes of its status; `spec` and `metadata` change those."""
    counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas}
    metadata = {"name": "work", "generation": 2, **changes.pop("metadata", {})}
    spec = {"replicas": replicas, **changes.pop("spec", {})}
    return {
        "kind": "AgentSet",
        "metadata": metadata,
        "spec": spec,
        "status": {"observedGeneration": 2, **counts, **changes},
    }


def conditions(**reasons: str) -> list[dict[str, str]]:
    return [{"type": name, "reason": reason, "message": f"{reason} it is"} for name, reason in reasons.items()]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (agent_set(), Progress('agentset "work" successfully rolled out', done=True)),
        (agent_set(0), Progress('agentset "work" successfully rolled out', done=True)),
        (agent_set(observedGeneration=1), Progress('Waiting for the update of agentset "work" to be observed...')),
        (agent_set(updatedReplicas=3), Progress(f"{WAITING}3 of 5 agents updated...")),
        (agent_set(availableReplicas=4), Progress(f"{WAITING}4 of 5 updated agents are ready...")),
        (
            agent_set(updatedReplicas=0, spec={"paused": True}),
            Progress('Rollout of agentset "work" is paused: 0 of 5 agents updated...'),
        ),
        (
            agent_set(metadata={"deletionTimestamp": "now"}),
            Progress(f"{WAITING}it is being deleted, 5 agents are left..."),
        ),
        (
            agent_set(updatedReplicas=3, conditions=conditions(Progressing="ProgressDeadlineExceeded", Ready="Bad")),
            Progress(
                'agentset "work" exceeded its progress deadline: ProgressDeadlineExceeded it is; Bad it is', failed=True
            ),
        ),
        ({**agent_set(), "status": {}}, Progress('Waiting for the update of agentset "work" to be observed...')),
    ],
)
def test_how_far_a_set_is(found: dict[str, Any], expected: Progress) -> None:
    assert set_progress(found) == expected


@pytest.mark.parametrize(("extra", "words"), [(1, "1 agent"), (2, "2 agents")])
def test_old_agents_are_waited_for(extra: int, words: str) -> None:
    found = agent_set()
    found["status"]["replicas"] += extra
    assert set_progress(found) == Progress(f"{WAITING}{words} of an earlier template left...")


def test_a_cluster_is_done_once_its_sets_are_declared() -> None:
    found = {"kind": "AgentCluster", "metadata": {"name": "shop", "generation": 3}, "status": {"observedGeneration": 2}}
    assert cluster_progress(found) == Progress('Waiting for the update of agentcluster "shop" to be observed...')
    found["status"] = {"observedGeneration": 3}
    assert cluster_progress(found).done
    found["status"] = {"observedGeneration": 3, "conditions": conditions(Ready="NameTaken")}
    assert cluster_progress(found).failed


def cluster(*entries: dict[str, Any], **spec: Any) -> dict[str, Any]:
    manifest = {"metadata": {"name": "shop", "namespace": "team"}, "spec": spec or {"agents": list(entries)}}
    return meta.created(validate(AGENTCLUSTER, manifest).object, "c1", 0)


def made(declared: dict[str, Any], number: int = 0) -> dict[str, Any]:
    """A set as the fleet makes it."""
    found = agent_sets(declared)[number]
    return {**found, "metadata": {**found["metadata"], "uid": f"s{number}"}}


def history(*versions: dict[str, Any]) -> list[dict[str, Any]]:
    """Revisions of the first set of each."""
    found: list[dict[str, Any]] = []
    for version in versions:
        found.append(revision_of(made(version), found))
    return found


ONE, TWO, THREE = (cluster({"name": "a", "settings": {"version": number}}) for number in (1, 2, 3))


@pytest.mark.parametrize(("number", "expected"), [(0, 2), (1, 1), (2, 2), (3, 3)])
def test_the_revision_before_unless_another_is_named(number: int, expected: int) -> None:
    assert chosen(made(THREE), history(ONE, TWO, THREE), number)["revision"] == expected


def test_what_is_declared_and_not_recorded_yet_is_gone_back_from() -> None:
    assert chosen(made(THREE), history(ONE, TWO), 0)["revision"] == 2


@pytest.mark.parametrize(
    ("kept", "number", "said"),
    [
        (history(ONE), 0, 'agentset "shop-a" has no earlier revision'),
        ([], 0, 'agentset "shop-a" has no earlier revision'),
        (history(ONE, TWO), 7, 'agentset "shop-a" has no revision 7; kept are 1, 2'),
        ([], 1, 'agentset "shop-a" has no revision 1; kept are none'),
        ([{**history(ONE)[0], "data": {}}], 1, 'agentset "shop-a" has no revision 1; kept are 1'),
    ],
)
def test_what_is_not_kept_cannot_be_gone_back_to(kept: list[dict[str, Any]], number: int, said: str) -> None:
    with pytest.raises(NotFound, match=said):
        chosen(made(ONE), kept, number)


CAUSE = "kubernetes.io/change-cause"


@pytest.mark.parametrize("cause", ["first", ""])
def test_a_set_by_itself_gets_the_template_and_its_cause(cause: str) -> None:
    (revision,) = history(ONE)
    if cause:
        revision["metadata"]["annotations"] = {CAUSE: cause}
    before = made(TWO)
    before["metadata"]["annotations"] |= {CAUSE: "second", "other": "kept"}
    after = undone_set(before, revision)
    assert after["spec"] == made(ONE)["spec"]
    expected = {**before["metadata"]["annotations"], CAUSE: cause}
    assert after["metadata"]["annotations"] == (
        expected if cause else {k: v for k, v in expected.items() if k != CAUSE}
    )


def test_a_manifest_changes_where_the_template_does_and_nowhere_else() -> None:
    old = cluster({"name": "a", "resources": {"cpu": 2}, "env": {"A": "1"}, "startTimeoutSeconds": 5})
    entry = {
        "name": "a",
        "replicas": 7,
        "strategy": {"maxSurge": 3},
        "resources": {"cpu": 2},
        "settings": {"new": True},
    }
    new = cluster(entry, {"name": "b"})
    after = undone_cluster(new, made(new), *history(old))
    assert after["spec"]["agents"] == [
        {
            "name": "a",
            "replicas": 7,
            "strategy": {"maxSurge": 3},
            "resources": new["spec"]["agents"][0]["resources"],
            "env": {"A": "1"},
            "startTimeoutSeconds": 5,
        },
        {"name": "b"},
    ]


templates = st.fixed_dictionaries(
    {"name": st.sampled_from(["a_b", "a-b"])},
    optional={
        "labels": st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"])),
        "resources": st.sampled_from([{"cpu": 1}, {"cpu": "1", "memory": "64Mi"}, {}]),
        "capabilities": st.lists(st.sampled_from(["p", "q"]), unique=True),
        "settings": st.dictionaries(st.sampled_from(["k", "l"]), st.none() | st.integers(0, 2)),
        "isolation": st.sampled_from(["shared", "dedicated"]),
        "startTimeoutSeconds": st.sampled_from([5, 60]),
        "strategy": st.just({"maxSurge": 1}),
        "revisionHistoryLimit": st.sampled_from([3, 10]),
    },
)


@settings(deadline=None)
@given(templates, templates, st.integers(0, 3))
def test_the_manifest_makes_exactly_that_template_again(old: Any, new: Any, replicas: int) -> None:
    before, after = cluster(old), cluster({**new, "replicas": replicas}, {"name": "other"})
    undone = undone_cluster(after, made(after), *history(before))
    undone = validate(AGENTCLUSTER, undone).object
    assert made(undone)["spec"]["template"] == made(before)["spec"]["template"]
    rest = [key for key in made(after)["spec"] if key != "template"]
    assert {key: made(undone)["spec"][key] for key in rest} == {key: made(after)["spec"][key] for key in rest}
    assert made(undone, 1)["spec"] == made(after, 1)["spec"]


def regions(**needs: Any) -> dict[str, Any]:
    return cluster(
        regions=[{"name": name, "agent_distribution": {"chat_agents": 2}} for name in ("us", "eu")],
        resource_management={"chat_agent": needs, "other": {"cpu": 9}},
    )


def test_a_type_goes_back_in_all_regions() -> None:
    before, after = regions(cpu="1"), regions(cpu="2", memory="1Gi")
    undone = undone_cluster(after, made(after), *history(before))
    assert undone["spec"]["resource_management"] == {
        "chat_agent": {"cpu": "1", "memory": "16Mi", "gpu": "0"},
        "other": after["spec"]["resource_management"]["other"],
    }
    assert {one["spec"]["template"]["resources"]["cpu"] for one in agent_sets(undone)} == {"1"}


def test_what_the_manifest_cannot_say_is_refused() -> None:
    before = cluster({"name": "chat_agent", "settings": {"a": 1}})
    after = cluster(resource_management={"chat_agent": {"cpu": 1}}, replicas=1)
    with pytest.raises(Permanent, match="resource_management has no settings"):
        undone_cluster(after, made(after), *history(before))
    gone = {**after, "spec": {"agents": [{"name": "b"}]}}
    with pytest.raises(Permanent, match="no template of that name"):
        undone_cluster(gone, made(after), *history(before))
