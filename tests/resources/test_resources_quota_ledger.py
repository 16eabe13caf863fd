"""A ledger always says what the definition does, whatever happens to the objects of a namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from choregos.resources import meta
from choregos.resources.quotas.ledger import Ledger
from choregos.resources.quotas.names import DECLARED
from choregos.resources.quotas.usage import declared, used
from choregos.resources.registry import COUNTED

Object = dict[str, Any]
CLUSTERS, SETS = "agentclusters", "agentsets"
NAMES = (*DECLARED, *COUNTED)


class Namespace:
    """The objects themselves, and nothing else."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Object]] = {}

    def __call__(self, resource: str) -> Sequence[Object]:
        return [*self.objects.get(resource, {}).values()]

    def put(self, resource: str, name: str, obj: Object | None) -> None:
        held = self.objects.setdefault(resource, {})
        held.pop(name, None)
        if obj is not None:
            held[name] = obj

    def but(self, resource: str, name: str, obj: Object) -> Namespace:
        """As it would be with an object stored."""
        other = Namespace()
        other.objects = {key: dict(held) for key, held in self.objects.items()}
        other.put(resource, name, obj)
        return other


# Few names, which meet: the set `a-b-c` can be asked for by `a` (template `b-c`, or `b` in region `c`) and by `a-b`.
replicas = st.integers(0, 3)
uids = st.sampled_from(["1", "1", "1", "1", "2"])
cpus = st.one_of(
    st.none(), st.fixed_dictionaries({}, optional={"cpu": st.sampled_from(["1", "250m"]), "gpu": st.just(1)})
)
templates = st.sampled_from(["b", "b", "b", "b", "B", "b-c", "c", "x"])
cluster_names = st.sampled_from(["a", "a", "a", "a-b"])
set_names = st.sampled_from(["a-b", "a-b", "a-b", "a-b-c", "a-b-c", "a-x", "own"])
deleting = st.sampled_from([False, False, False, True])

allocated = st.fixed_dictionaries(
    {},
    optional={
        "agents": st.integers(0, 9).map(str),
        "cpu": st.sampled_from(["100m", "2", "9"]),
        "memory": st.sampled_from(["16Mi", "1Gi"]),
        "tpu": st.just("1"),
    },
)
entries = st.fixed_dictionaries({"name": templates, "resources": cpus}, optional={"replicas": replicas})
needs = st.dictionaries(templates, cpus, max_size=3)
shapes = st.one_of(
    st.fixed_dictionaries({"agents": st.lists(entries, max_size=4)}),  # two of one name, too
    st.fixed_dictionaries({"replicas": replicas, "resource_management": needs}),
    st.fixed_dictionaries(
        {
            "regions": st.lists(
                st.fixed_dictionaries(
                    {"name": st.sampled_from(["c", "x"]), "agent_distribution": st.dictionaries(templates, replicas)}
                ),
                max_size=2,
            ),
            "resource_management": needs,
        }
    ),
)
references = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["AgentCluster"] * 5 + ["Wheel"]),
        "name": cluster_names,
        "uid": uids,
    },
    optional={"controller": st.sampled_from([True] * 5 + [False])},
)


def obj(name: str, uid: str, is_deleting: bool, spec: Object, **metadata: Any) -> Object:
    deletion = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if is_deleting else {}
    return {"metadata": {"name": name, "uid": uid, **deletion, **metadata}, "spec": spec}


clusters = st.builds(
    lambda *parts: (CLUSTERS, parts[0], obj(*parts)),
    cluster_names,
    uids,
    deleting,
    shapes,
)
sets = st.builds(
    lambda name, uid, gone, spec, owners, scaled, status: (
        SETS,
        name,
        {**obj(name, uid, gone, spec, ownerReferences=owners, annotations=scaled), **status},
    ),
    set_names,
    uids,
    deleting,
    st.fixed_dictionaries(
        {"replicas": replicas, "template": st.fixed_dictionaries({"name": templates, "resources": cpus})}
    ),
    st.one_of(st.lists(references, min_size=1, max_size=2), st.none()),
    st.one_of(st.none(), st.fixed_dictionaries({meta.DECLARED_REPLICAS_ANNOTATION: replicas.map(str)})),
    st.fixed_dictionaries({}, optional={"status": st.fixed_dictionaries({}, optional={"allocated": allocated})}),
)
others = st.builds(lambda name: ("configmaps", name, obj(name, "1", False, {})), set_names)
removals = st.one_of(
    st.tuples(st.just(CLUSTERS), cluster_names, st.none()),
    st.tuples(st.sampled_from([SETS, "configmaps"]), set_names, st.none()),
)
changes = st.one_of(clusters, clusters, sets, sets, sets, others, removals)


OWNED: Object = {
    "ownerReferences": [{"kind": "AgentCluster", "name": "a", "uid": "1", "controller": True}],
    "annotations": {meta.DECLARED_REPLICAS_ANNOTATION: "1"},
}
ASKED_TWICE = obj("a", "1", False, {"agents": [{"name": "b", "replicas": 1}, {"name": "B", "replicas": 2}]})
SCALED = obj("a-b", "1", False, {"replicas": 3, "template": {"name": "b"}}, **OWNED)
NONE = (CLUSTERS, "a-b", obj("a-b", "1", True, {"agents": []}))


@example(history=[((CLUSTERS, "a", ASKED_TWICE), NONE), ((SETS, "a-b", SCALED), NONE), ((CLUSTERS, "a", None), NONE)])
@settings(max_examples=300, deadline=None)
@given(history=st.lists(st.tuples(changes, st.one_of(clusters, sets)), min_size=1, max_size=25))
def test_it_says_what_the_definition_says_after_every_change(history: Any) -> None:
    world, ledger = Namespace(), Ledger(lambda _: ())
    for (resource, name, found), (other_resource, other_name, asked) in history:
        world.put(resource, name, found)
        ledger.replace(resource, name, found)
        assert ledger.used(NAMES) == used(NAMES, world)
        # What would be if something were stored, and afterwards all is as it was.
        for written in ("", other_name):
            expected = declared(world.but(other_resource, other_name, asked), written)
            previous = ledger.replace(other_resource, other_name, asked)
            assert ledger.used(expected, written) == expected
            without = declared(world.but(other_resource, other_name, asked), written, held=False)
            assert ledger.used(expected, written, held=False) == without
            assert ledger.count(other_resource) == len(world.but(other_resource, other_name, asked)(other_resource))
            ledger.replace(other_resource, other_name, previous)
            assert ledger.used(expected, written) == declared(world, written)
    assert Ledger(world).used(NAMES) == ledger.used(NAMES)


def test_it_takes_what_it_does_not_count() -> None:
    ledger = Ledger(lambda _: ())
    assert ledger.replace("events", "a", {"metadata": {"name": "a"}}) is None
    assert ledger.replace("agentnodes", "a", None) is None
    assert not any(ledger.used(NAMES).values())


def test_a_change_looks_at_nothing_but_what_it_concerns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand sets, forged ones of a cluster among them, cost a write no more than none."""
    world = Namespace()
    owner = obj("a", "1", False, {"agents": [{"name": "b", "replicas": 2}]})
    world.put(CLUSTERS, "a", owner)
    forged = [{"kind": "AgentCluster", "name": "a", "uid": "1", "controller": True}]
    for number in range(1_000):
        name = f"s{number}"
        spec = {"replicas": 1, "template": {"name": "x"}}
        world.put(SETS, name, obj(name, name, False, spec, ownerReferences=forged if number % 2 else None))
    ledger, looked_at = Ledger(world), 0
    is_deleting = meta.is_deleting

    def counting(found: Any) -> bool:
        nonlocal looked_at
        looked_at += 1
        return is_deleting(found)

    monkeypatch.setattr(meta, "is_deleting", counting)
    ledger.replace(SETS, "s1", world.objects[SETS]["s2"])
    ledger.replace(CLUSTERS, "a", None)
    ledger.replace(CLUSTERS, "a", owner)
    ledger.used(["agents"], "s1")
    assert looked_at < 10
    assert ledger.used(["agents"]) == used(["agents"], world)
