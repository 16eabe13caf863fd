"""What a ResourceQuota may limit, what its namespace uses of that, and what may still be stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from choregos.foundation.errors import Invalid
from choregos.resources import meta
from choregos.resources.expansion import agent_sets, updated_set
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.quotas.admission import admission, bounds
from choregos.resources.quotas.ledger import Ledger
from choregos.resources.quotas.names import DECLARED
from choregos.resources.quotas.usage import Objects, declared, declares_as, quota_status, used
from choregos.resources.registry import COUNTED, KINDS, RESOURCEQUOTA
from choregos.resources.validation import validate

Object = dict[str, Any]


def cluster(text: str, name: str = "support", **metadata: Any) -> Object:
    whole = {"name": name, "namespace": "team", **metadata}
    obj = validate(AGENTCLUSTER, {"metadata": whole, "spec": yaml.safe_load(text)}).object
    return meta.created(obj, f"uid-of-{name}", 0)


def agent_set(name: str, replicas: int, cpu: str = "1", controller: Object | None = None, **annotations: str) -> Object:
    metadata: Object = {"name": name, "namespace": "team", "annotations": annotations}
    if controller is not None:
        metadata["ownerReferences"] = [meta.controlled_by(controller)]
    template = {"name": "worker", "resources": {"cpu": cpu}}
    obj = validate(AGENTSET, {"metadata": metadata, "spec": {"replicas": replicas, "template": template}}).object
    return meta.created(obj, f"uid-of-{name}", 0)


def quota(name: str = "bound", **hard: str) -> Object:
    metadata = {"name": name, "namespace": "team"}
    return validate(RESOURCEQUOTA, {"metadata": metadata, "spec": {"hard": hard}}).object


def holding(**objects: Sequence[Object]) -> Objects:
    return lambda resource: objects.get(resource, ())


def amounts(*clusters: Object, sets: Sequence[Object] = ()) -> Mapping[str, int]:
    return declared(holding(agentclusters=clusters, agentsets=sets))


# What is declared

ONE = "agents: [{name: chat, replicas: 3, resources: {cpu: 500m, memory: 64Mi, gpu: 1}}, {name: other}]"
TWO = """
regions:
- {name: us, agent_distribution: {talk_agents: 3, other_agents: 4}}
- {name: eu, agent_distribution: {talk_agents: 2}}
resource_management: {talk_agent: {cpu: 2, memory: 1Gi, gpu: 500m}}
"""
THREE = "{replicas: 5, resource_management: {a: {cpu: 1}, b: {memory: 1Mi}}}"
MEBI = 1000 * 2**20


@pytest.mark.parametrize(
    ("text", "agents", "cpu", "memory", "gpu"),
    [
        (ONE, 4, 1510, (3 * 64 + 16) * MEBI, 3000),
        (TWO, 9, 5 * 2000 + 4 * 10, (5 * 1024 + 4 * 16) * MEBI, 2500),
        (THREE, 5, 3 * 1000 + 2 * 10, (3 * 16 + 2) * MEBI, 0),
        ("agents: []", 0, 0, 0, 0),
        ("agents: [{name: a, replicas: 1000000, resources: {memory: 7Ei}}]", 10**6, 10**7, 7 * 10**9 * 2**60, 0),
    ],
)
def test_every_shape_is_counted_with_what_its_agents_need(
    text: str, agents: int, cpu: int, memory: int, gpu: int
) -> None:
    assert amounts(cluster(text)) == {"agents": agents * 1000, "cpu": cpu, "memory": memory, "gpu": gpu}


def test_a_sum_beyond_every_quantity_is_shown_as_the_largest() -> None:
    bound = quota(memory="1Gi")
    many = cluster("agents: [{name: a, replicas: 1000000, resources: {memory: 7Ei}}]")
    status = quota_status(bound, used(["memory"], holding(agentclusters=[many])))
    assert status["used"] == {"memory": str(2**63 - 1)}
    validate(RESOURCEQUOTA, {**bound, "status": status})


def test_sets_count_by_themselves_unless_a_cluster_that_is_there_controls_them() -> None:
    owner = cluster("agents: [{name: chat, replicas: 3}]")
    assert amounts(sets=[agent_set("a", 2), agent_set("b", 3)])["agents"] == 5000
    mine, gone = (
        agent_set("support-chat", 3, controller=owner),
        agent_set("x", 7, controller=cluster("agents: []", "y")),
    )
    assert amounts(owner, sets=[mine])["agents"] == 3000
    assert amounts(owner, sets=[mine, gone])["agents"] == 10_000
    # A name that somebody else has is declared by both.
    assert amounts(owner, sets=[agent_set("support-chat", 2)])["agents"] == 5000


OWNER = cluster("regions: [{name: us, agent_distribution: {talk_agents: 3}}]")
REAL = meta.controlled_by(OWNER)
GONE = {**REAL, "uid": "uid-of-gone"}


@pytest.mark.parametrize(
    ("name", "references", "counted"),
    [
        ("support-talk-agent-us", [REAL], 3),
        ("support-talk-agent-eu", [REAL], 8),  # a share, but of another region
        ("support-talk-agent", [REAL], 8),
        ("surplus", [REAL], 8),
        ("support-talk-agent-us", [{**REAL, "controller": False}], 8),
        ("support-talk-agent-us", [{**REAL, "kind": "Wheel"}], 8),  # no fleet is woken by it
        ("support-talk-agent-us", [{**REAL, "name": "other"}], 8),
        ("support-talk-agent-us", [GONE], 8),
        ("support-talk-agent-us", [GONE, REAL], 8),
        ("surplus", [REAL, GONE], 8),
        ("surplus", [], 8),
    ],
)
@pytest.mark.parametrize("spec", [{}, {"cluster": "support"}, {"cluster": "none"}])
def test_who_says_that_a_cluster_owns_a_set_escapes_no_count(
    name: str, references: list[Object], counted: int, spec: Object
) -> None:
    forged = agent_set(name, 5)
    forged["metadata"]["ownerReferences"] = references
    forged["spec"] |= spec
    assert amounts(OWNER, sets=[forged])["agents"] == counted * 1000


def test_a_set_that_was_scaled_itself_counts_for_more_and_never_for_less() -> None:
    owner = cluster("agents: [{name: chat, replicas: 3}]")
    declaring = {meta.DECLARED_REPLICAS_ANNOTATION: "3"}
    for replicas, counted in ((9, 9), (1, 3), (3, 3)):
        scaled = agent_set("support-chat", replicas, controller=owner, **declaring)
        assert amounts(owner, sets=[scaled])["agents"] == counted * 1000
    stale = agent_set("support-chat", 9, controller=owner, **{meta.DECLARED_REPLICAS_ANNOTATION: "5"})
    assert amounts(owner, sets=[stale])["agents"] == 3000, "the cluster has declared another count since"
    assert amounts(owner, sets=[agent_set("support-chat", 9, controller=owner)])["agents"] == 3000


def test_what_is_being_deleted_declares_nothing_and_is_there_until_it_has_gone() -> None:
    doomed = meta.deleting(cluster(ONE), 0)
    left = agent_set("support-chat", 2, controller=doomed)
    assert amounts(doomed)["agents"] == 0
    assert amounts(doomed, sets=[left])["agents"] == 2000, "it may be kept"
    assert amounts(doomed, sets=[meta.deleting(left, 0)])["agents"] == 0
    names = ["count/agentclusters.choregos.dev"]
    assert used(names, holding(agentclusters=[doomed])) == {names[0]: 1000}


def holds(found: Object, **allocated: str) -> Object:
    return {**found, "status": {"allocated": allocated}}


@pytest.mark.parametrize(
    ("allocated", "is_deleting", "agents", "cpu"),
    [
        ({}, False, 2, 2000),
        ({"agents": "2", "cpu": "2"}, False, 2, 2000),
        ({"agents": "1", "cpu": "1"}, False, 2, 2000),  # not all are there yet
        ({"agents": "3", "cpu": "3"}, False, 3, 3000),  # one of an earlier template is left, or drains
        ({"agents": "1", "cpu": "50"}, False, 2, 50_000),  # name by name
        ({"agents": "2", "cpu": "2"}, True, 2, 2000),
        ({"agents": "40", "cpu": "200m"}, True, 40, 200),
        ({}, True, 0, 0),
    ],
)
def test_a_set_counts_for_the_larger_of_what_it_declares_and_what_its_agents_hold(
    allocated: dict[str, str], is_deleting: bool, agents: int, cpu: int
) -> None:
    found = holds(agent_set("work", 2), **allocated)
    counted = amounts(sets=[meta.deleting(found, 0) if is_deleting else found])
    assert (counted["agents"], counted["cpu"]) == (agents * 1000, cpu)


@pytest.mark.parametrize(
    ("agents", "is_deleting", "counted"),
    [("1", False, 3), ("3", False, 3), ("9", False, 9), ("9", True, 9), ("1", True, 3), ("0", True, 3)],
)
def test_a_share_counts_for_the_larger_of_what_it_declares_and_what_its_set_holds(
    agents: str, is_deleting: bool, counted: int
) -> None:
    owner = cluster("agents: [{name: chat, replicas: 3}]")
    found = holds(agent_set("support-chat", 3, controller=owner), agents=agents)
    left = meta.deleting(found, 0) if is_deleting else found
    assert amounts(owner, sets=[left])["agents"] == counted * 1000
    # Whoever it was that asked for it.
    alone = amounts(meta.deleting(owner, 0), sets=[meta.deleting(found, 0)])["agents"]
    assert alone == int(agents) * 1000


counts = st.integers(0, 20)
templates = st.dictionaries(st.sampled_from("abc"), st.tuples(counts, st.sampled_from(["1", "250m", "4"])), max_size=3)


def spec_of(chosen: Mapping[str, tuple[int, str]]) -> str:
    agents = [{"name": name, "replicas": n, "resources": {"cpu": cpu}} for name, (n, cpu) in chosen.items()]
    return yaml.safe_dump({"agents": agents})


def reconciled(owner: Object, sets: Sequence[Object]) -> list[Object]:
    """The sets of a cluster as the fleet makes them."""
    existing = {each["metadata"]["name"]: each for each in sets}
    wanted = {each["metadata"]["name"]: each for each in agent_sets(owner)}
    return [updated_set(existing[name], each) if name in existing else each for name, each in wanted.items()]


@given(before=templates, after=templates, scaled=st.dictionaries(st.sampled_from("abc"), counts))
def test_making_the_declared_state_true_uses_no_more(before: Any, after: Any, scaled: Any) -> None:
    sets = reconciled(cluster(spec_of(before)), [])
    for each in sets:
        each["spec"]["replicas"] = scaled.get(each["metadata"]["name"][-1], each["spec"]["replicas"])
    owner = cluster(spec_of(after))
    promised = amounts(owner, sets=sets)
    current: list[Object] = sets
    for _ in range(2):
        current = reconciled(owner, current)
        found = amounts(owner, sets=current)
        assert all(found[name] <= promised[name] for name in promised)
        real: dict[str, int] = dict.fromkeys(promised, 0)
        for name, amount in amounts(sets=[{**each, "metadata": {"name": "x"}} for each in current]).items():
            real[name] += amount
        assert all(real[name] <= found[name] for name in real), "agents run that nobody counts"
        current = [each for each in current if each["metadata"]["name"][-1] in "ab"]  # somebody deletes a set


def test_a_change_that_declares_nothing_else_is_told_apart() -> None:
    one = agent_set("a", 2)
    assert declares_as({**one, "status": {"replicas": 1}}, one)
    assert declares_as(agent_set("a", 2, note="anything"), one)
    for other in (
        agent_set("a", 3),
        agent_set("a", 2, "2"),
        meta.deleting(one, 0),
        agent_set("a", 2, controller=cluster(ONE)),
        agent_set("a", 2, **{meta.DECLARED_REPLICAS_ANNOTATION: "1"}),
        holds(one, agents="1"),
    ):
        assert not declares_as(other, one)


# What may be stored


def test_what_exceeds_a_quota_is_told_in_the_words_of_kubernetes() -> None:
    bound = quota(agents="10", cpu="5", memory="1Gi", secrets="1")
    verdict = admission([bound], "agentsets", agent_set("new", 5), Ledger(holding(agentsets=[agent_set("old", 3)])))
    assert list(verdict.excesses) == ["exceeded quota: bound, requested: cpu=5, used: cpu=3, limited: cpu=5"]
    verdict = admission(
        [bound], "agentsets", agent_set("new", 9, "1m"), Ledger(holding(agentsets=[agent_set("old", 3)]))
    )
    assert list(verdict.excesses) == [
        "exceeded quota: bound, requested: agents=9, used: agents=3, limited: agents=10",
    ]
    verdict = admission([bound], "agentsets", agent_set("new", 100), Ledger(holding(agentsets=[agent_set("old", 3)])))
    assert list(verdict.excesses) == [
        "exceeded quota: bound, requested: agents=100,cpu=100,memory=1600Mi, used: agents=3,cpu=3,memory=48Mi, "
        "limited: agents=10,cpu=5,memory=1Gi",
    ]


@pytest.mark.parametrize("annotation", ["3", "5", "9", ""])
def test_a_set_that_somebody_writes_counts_for_no_less_than_it_says(annotation: str) -> None:
    bound, owner = quota(agents="4"), cluster("agents: [{name: chat, replicas: 3}]")
    annotations = {meta.DECLARED_REPLICAS_ANNOTATION: annotation}
    for sets in ([], [agent_set("support-chat", 3, controller=owner)]):
        objects = holding(agentclusters=[owner], agentsets=sets)
        for replicas in (4, 5):
            wanted = agent_set("support-chat", replicas, controller=owner, **annotations)
            assert bool(admission([bound], "agentsets", wanted, Ledger(objects)).excesses) is (replicas == 5)
    # What its cluster is about to make smaller may be labelled meanwhile.
    large = holding(agentclusters=[owner], agentsets=[agent_set("support-chat", 9, controller=owner, **annotations)])
    labelled = agent_set("support-chat", 9, controller=owner, **annotations)
    labelled["metadata"]["labels"] = {"a": "b"}
    assert admission([bound], "agentsets", labelled, Ledger(large)).excesses == []


def test_what_a_cluster_was_about_to_take_back_counts_once_it_is_made_to_stay() -> None:
    bound, owner = quota(agents="9"), cluster("agents: [{name: chat, replicas: 3}]")
    stale, stays = ({meta.DECLARED_REPLICAS_ANNOTATION: count} for count in ("5", "3"))
    scaled = agent_set("support-chat", 9, controller=owner, **stale)
    ledger = Ledger(holding(agentclusters=[owner], agentsets=[scaled, agent_set("other", 6)]))
    verdict = admission([bound], "agentsets", agent_set("support-chat", 9, controller=owner, **stays), ledger)
    assert list(verdict.excesses) == ["exceeded quota: bound, requested: agents=6, used: agents=9, limited: agents=9"]
    less = admission([bound], "agentsets", agent_set("support-chat", 8, controller=owner, **stale), ledger)
    assert (list(less.excesses), list(less.quotas)) == ([], [])


def test_only_quotas_of_which_more_is_used_are_written() -> None:
    quotas = [quota("a", agents="10"), quota("b", secrets="9"), quota("c", cpu="4", agents="5"), quota("d")]
    old = agent_set("work", 1)
    objects = holding(agentsets=[old], secrets=[{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}])
    verdict = admission(quotas, "agentsets", agent_set("work", 3), Ledger(objects))
    assert [(each["metadata"]["name"], each["status"]) for each in verdict.quotas] == [
        ("a", {"hard": {"agents": "10"}, "used": {"agents": "3"}}),
        ("c", {"hard": {"cpu": "4", "agents": "5"}, "used": {"agents": "3", "cpu": "3"}}),
    ]
    for same in (agent_set("work", 1), agent_set("work", 0)):
        assert admission(quotas, "agentsets", same, Ledger(objects)).quotas == []
    (secret,) = admission(quotas, "secrets", {"metadata": {"name": "s"}}, Ledger(holding(secrets=[]))).quotas
    assert secret["status"]["used"] == {"secrets": "1"}


def test_a_quota_is_written_although_its_status_says_the_same_already() -> None:
    """It is what makes two writes that were judged by one state a conflict."""
    behind = quota(agents="8") | {"status": {"hard": {"agents": "8"}, "used": {"agents": "8"}}}
    (kept,) = admission([behind], "agentsets", agent_set("b", 3), Ledger(holding(agentsets=[agent_set("a", 5)]))).quotas
    assert kept == behind


def test_whoever_is_over_may_go_down_and_change_the_rest() -> None:
    bound = quota(agents="2", cpu="1")
    objects = holding(agentsets=[agent_set("work", 9)])
    assert admission([bound], "agentsets", agent_set("work", 8), Ledger(objects)).excesses == []
    labelled = agent_set("work", 9)
    labelled["metadata"]["labels"] = {"a": "b"}
    assert admission([bound], "agentsets", labelled, Ledger(objects)).excesses == []
    # Fewer, but each needs more: what is raised is judged.
    verdict = admission([bound], "agentsets", agent_set("work", 8, "2"), Ledger(objects))
    assert list(verdict.excesses) == ["exceeded quota: bound, requested: cpu=7, used: cpu=9, limited: cpu=1"]


@pytest.mark.parametrize(
    ("replicas", "cpu", "refused"),
    [
        (1, "1", False),  # as it was
        (0, "1", False),
        (1, "500m", False),
        (2, "500m", True),  # one more agent, although it needs no more in all
        (3, "1", True),  # no more than its agents hold: they drain, and three others would run beside them
        (1, "2", True),
        (4, "1", True),
    ],
)
def test_what_agents_hold_makes_no_room_to_declare_as_much_again(replicas: int, cpu: str, refused: bool) -> None:
    bound, old = quota(agents="2", cpu="1"), holds(agent_set("work", 1), agents="3", cpu="3")
    objects = holding(agentsets=[old])
    wanted = {**agent_set("work", replicas, cpu), "status": old["status"]}
    assert bool(admission([bound], "agentsets", wanted, Ledger(objects)).excesses) is refused
    other = admission([bound], "agentsets", agent_set("other", 1, "1m"), Ledger(objects))
    assert list(other.excesses) == [
        "exceeded quota: bound, requested: agents=1,cpu=1m, used: agents=3,cpu=3, limited: agents=2,cpu=1"
    ]


def test_what_is_declared_within_what_agents_hold_is_stored_with_its_quota() -> None:
    bound, old = quota(agents="9"), holds(agent_set("work", 1), agents="3")
    wanted = {**agent_set("work", 2), "status": old["status"]}
    (kept,) = admission([bound], "agentsets", wanted, Ledger(holding(agentsets=[old]))).quotas
    assert kept["status"]["used"] == {"agents": "3"}


@given(
    limits=st.fixed_dictionaries({}, optional={"agents": counts, "pods": counts, "cpu": counts, "gpu": counts}),
    held=st.lists(counts, max_size=3),
    before=counts,
    after=counts,
)
def test_a_write_is_admitted_exactly_if_what_it_raises_fits(
    limits: Any, held: list[int], before: int, after: int
) -> None:
    bound = quota(**{name: str(limit) for name, limit in limits.items()})
    others = [agent_set(f"s{number}", replicas) for number, replicas in enumerate(held)]
    objects = holding(agentsets=[*others, agent_set("work", before)])
    verdict = admission([bound], "agentsets", agent_set("work", after), Ledger(objects))
    total = sum(held) + after
    fits = after <= before or all(total <= limit for name, limit in limits.items() if name != "gpu")
    assert bool(verdict.excesses) is not fits
    if fits and after > before and limits.keys() - {"gpu"}:
        (kept,) = verdict.quotas
        assert kept["status"] == quota_status(
            bound, used(limits, holding(agentsets=[*others, agent_set("work", after)]))
        )
    else:
        assert verdict.quotas == []


def test_a_name_that_another_version_knew_harms_nothing() -> None:
    old = quota(agents="3")
    old["spec"]["hard"]["count/wheels.example.org"] = "1"
    (kept,) = admission([old], "agentsets", agent_set("work", 2), Ledger(holding())).quotas
    assert kept["status"] == {"hard": {"agents": "3"}, "used": {"agents": "2"}}


def test_a_quota_bounds_the_resources_that_it_names() -> None:
    assert bounds(quota(pods="1"), "agentclusters")
    assert bounds(quota(gpu="1"), "agentsets")
    assert not bounds(quota(pods="1"), "configmaps")
    assert bounds(quota(configmaps="1"), "configmaps")
    assert bounds(quota(**{"count/agentsets.choregos.dev": "1"}), "agentsets")
    assert not bounds(quota(**{"count/agentsets.choregos.dev": "1"}), "agentclusters")
    assert not bounds(quota(), "agentclusters")


# Names and the kind


def test_everything_that_can_be_made_in_a_namespace_can_be_counted() -> None:
    stored = [kind for kind in KINDS if kind.namespaced and kind.plane == "declarative"]
    assert set(COUNTED.values()) == {kind.plural for kind in stored if "create" in kind.verbs}
    assert not COUNTED.keys() & DECLARED.keys()
    validate(RESOURCEQUOTA, {"metadata": {"name": "all"}, "spec": {"hard": dict.fromkeys([*COUNTED, *DECLARED], "1")}})


@pytest.mark.parametrize(
    ("spec", "faults"),
    [
        (
            {"hard": {"limits.cpu": "1"}},
            {"spec.hard[limits.cpu]": "is nothing that can be limited; what can be: agents, "},
        ),
        ({"hard": {"services": 3}}, {"spec.hard.services": "count/agentclusters.choregos.dev"}),
        ({"hard": {"count/events": 3}}, {"spec.hard[count/events]": "is nothing"}),
        ({"hard": {"pods": "1500m"}}, {"spec.hard.pods": "must be a whole number of agents, found 1500m"}),
        ({"hard": {"memory": "100m"}}, {"spec.hard.memory": "must be a whole number of bytes, found 100m"}),
        ({"hard": {"secrets": 0.5}}, {"spec.hard.secrets": "must be a whole number of objects, found 0.5"}),
        ({"hard": {"cpu": "many"}}, {"spec.hard.cpu": "expected a quantity"}),
        ({"hard": {"cpu": "-1"}}, {"spec.hard.cpu": "at least 0"}),
        ({"hard": {"cpu": {}}}, {"spec.hard.cpu": "expected a quantity"}),
        ({"hard": ["cpu"]}, {"spec.hard": "expected an object"}),
        ({"scopes": ["BestEffort"]}, {"spec.scopes": "is not supported"}),
        ({"scopeSelector": {"matchExpressions": []}}, {"spec.scopeSelector": "is not supported"}),
        (
            {"hard": {"x": 1, "y": 1, "agents": "0.1"}, "scopes": ["a"]},
            {
                "spec.hard.x": "what can be",
                "spec.hard.y": "is nothing",
                "spec.hard.agents": "whole",
                "spec.scopes": "not",
            },
        ),
    ],
)
def test_every_fault_is_told_with_its_place(spec: Object, faults: Mapping[str, str]) -> None:
    with pytest.raises(Invalid) as refused:
        validate(RESOURCEQUOTA, {"metadata": {"name": "a"}, "spec": spec})
    found = {cause.path: cause.message for cause in refused.value.causes}
    assert found.keys() == faults.keys()
    assert all(text in found[path] for path, text in faults.items())


def test_limits_are_kept_in_their_canonical_form() -> None:
    bound = quota(cpu="1500m", memory="1024Mi", agents="10000", gpu="0.5")
    assert bound["spec"]["hard"] == {"cpu": "1500m", "memory": "1Gi", "agents": "10k", "gpu": "500m"}
    assert validate(RESOURCEQUOTA, {"metadata": {"name": "none"}}).object["spec"] == {}


def test_the_columns_are_those_of_kubernetes() -> None:
    bound = quota(agents="10", memory="1Gi")
    cells = [(column.name, column.cell(bound, 0)) for column in RESOURCEQUOTA.columns[1:3]]
    assert cells == [("Request", ""), ("Limit", "")]
    status = quota_status(bound, used(["agents", "memory"], holding(agentsets=[agent_set("a", 3)])))
    assert RESOURCEQUOTA.columns[1].cell({**bound, "status": status}, 0) == "agents: 3/10, memory: 48Mi/1Gi"
