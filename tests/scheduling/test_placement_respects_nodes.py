"""Placement: filters, spreading, messages; and the properties that hold for every snapshot."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.scheduling.filters import evicted_by, exclusion, shortfall
from choregos.scheduling.placement import plan
from choregos.scheduling.snapshot import AGENTS, Needs, Node, Request, Snapshot, Taint, Toleration

MIB = 1024 * 1024 * 1000
BIG = {"cpu": 8_000, "memory": 8192 * MIB, AGENTS: 1_000_000}


def node(name: str, allocatable: dict[str, int] | None = None, **fields: object) -> Node:
    return Node(name, BIG if allocatable is None else allocatable, **fields)  # type: ignore[arg-type]


def placed(nodes: tuple[Node, ...], request: Request) -> tuple[Counter[str], str]:
    (placement,) = plan(Snapshot(nodes), [request]).placements
    assert len(placement.nodes) + placement.unplaced == request.count
    return Counter(placement.nodes), placement.message


def test_identical_agents_are_spread_evenly() -> None:
    counts, message = placed((node("b"), node("a"), node("c")), Request(Needs({"cpu": 100}), 9))
    assert counts == {"a": 3, "b": 3, "c": 3}
    assert message == ""


def test_a_used_node_gets_fewer_until_it_is_even() -> None:
    counts, _ = placed((node("a", allocated={"cpu": 4_000}), node("b")), Request(Needs({"cpu": 1_000}), 4))
    assert counts["b"] > counts["a"]


def test_agents_of_the_same_set_keep_apart() -> None:
    counts, _ = placed((node("a", allocated={"cpu": 500}), node("b")), Request(Needs({"cpu": 100}), 1, {"b": 2}))
    assert counts == {"a": 1}


@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        (node("a", ready=False), "not ready"),
        (node("a", unschedulable=True), "cordoned"),
        (node("a", taints=(Taint("gpu", "a100"),)), "with untolerated taint gpu=a100:NoSchedule"),
        (node("a", taints=(Taint("old", effect="NoExecute"),)), "with untolerated taint old:NoExecute"),
        (node("a", labels={"zone": "x"}), "without label disk=ssd, zone=y"),
    ],
)
def test_excluded_nodes_say_why(unfit: Node, why: str) -> None:
    needs = Needs(node_selector={"zone": "y", "disk": "ssd"} if "label" in why else {})
    counts, message = placed((unfit,), Request(needs, 2))
    assert not counts
    assert message == f"0/1 nodes fit: 1 {why}; nearest fit: a is {why}"


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        (Toleration("gpu", "Equal", "a100", "NoSchedule"), True),
        (Toleration("gpu", "Equal", "a100"), True),
        (Toleration("gpu", "Equal", "h100"), False),
        (Toleration("gpu", "Exists"), True),
        (Toleration("", "Exists"), True),
        (Toleration("gpu", "Exists", "", "NoExecute"), False),
    ],
)
def test_tolerations_open_tainted_nodes(toleration: Toleration, fits: bool) -> None:
    tainted = node("a", taints=(Taint("gpu", "a100"),))
    assert (exclusion(tainted, Needs(tolerations=(toleration,))) == "") is fits


def test_prefer_no_schedule_is_a_second_choice() -> None:
    small = node("a", {"cpu": 200, AGENTS: 10_000})
    counts, _ = placed(
        (small, node("b", taints=(Taint("x", effect="PreferNoSchedule"),))), Request(Needs({"cpu": 100}), 3)
    )
    assert counts == {"a": 2, "b": 1}


def test_no_execute_evicts_and_other_effects_do_not() -> None:
    assert evicted_by(node("a", taints=(Taint("x", effect="NoExecute"),)), Needs(), 0) is not None
    assert evicted_by(node("a", taints=(Taint("x"),)), Needs(), 0) is None


@pytest.mark.parametrize(("seconds", "leaves"), [((None,), False), ((30,), True), ((None, 20), True), ((31,), False)])
def test_a_toleration_of_no_execute_may_end(seconds: tuple[int | None, ...], leaves: bool) -> None:
    tainted = node("a", taints=(Taint("x", effect="NoExecute", added_ms=1_000),))
    needs = Needs(tolerations=tuple(Toleration("x", "Exists", seconds=limit) for limit in seconds))
    assert (evicted_by(tainted, needs, 31_000) is not None) is leaves


def test_the_message_counts_obstacles_and_names_the_nearest_fit() -> None:
    needs = Needs({"cpu": 500, "memory": 1024 * MIB, "gpu": 1_000})
    nodes = (
        node("node-a", {"cpu": 8_000, "memory": 512 * MIB, AGENTS: 10_000}),
        node("node-b", {"cpu": 8_000, "memory": 512 * MIB, "gpu": 2_000, AGENTS: 10_000}),
        node("node-c", unschedulable=True),
    )
    counts, message = placed(nodes, Request(needs, 1))
    assert not counts
    assert message == (
        "0/3 nodes fit: 2 insufficient memory (asked 1Gi, most free 512Mi on node-b), 1 cordoned, "
        "1 insufficient gpu (asked 1, most free 0 on node-a); nearest fit: node-b lacks 512Mi memory"
    )


def test_without_nodes_the_message_says_so() -> None:
    assert placed((), Request(Needs()))[1] == "no node is registered in this region"


def test_what_does_not_fit_is_left_over_with_a_reason() -> None:
    counts, message = placed((node("a", {"cpu": 250, AGENTS: 10_000}),), Request(Needs({"cpu": 100}), 5))
    assert counts == {"a": 2}
    assert message == (
        "0/1 nodes fit: 1 insufficient cpu (asked 100m, most free 50m on a); nearest fit: a lacks 50m cpu"
    )


amounts = st.fixed_dictionaries({"cpu": st.integers(0, 3_000), AGENTS: st.integers(0, 9_000)})
taints = st.lists(
    st.builds(Taint, st.sampled_from("xy"), effect=st.sampled_from(["NoSchedule", "PreferNoSchedule"])), max_size=2
)
nodes_strategy = st.lists(
    st.builds(
        Node,
        name=st.sampled_from("abcdef"),
        allocatable=amounts,
        allocated=st.fixed_dictionaries({}, optional={"cpu": st.integers(0, 2_000), AGENTS: st.integers(0, 3_000)}),
        taints=taints.map(tuple),
        ready=st.booleans(),
        unschedulable=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda one: one.name,
)
requests_strategy = st.lists(
    st.builds(
        Request,
        needs=st.builds(
            Needs,
            resources=st.fixed_dictionaries({"cpu": st.integers(0, 500)}),
            tolerations=st.sampled_from([(), (Toleration("x", "Exists"),)]),
        ),
        count=st.integers(1, 20),
        alike=st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)),
    ),
    max_size=4,
)


@given(nodes=nodes_strategy, requests=requests_strategy)
def test_no_plan_over_commits_and_none_leaves_a_fitting_agent_out(nodes: list[Node], requests: list[Request]) -> None:
    result = plan(Snapshot(tuple(nodes)), requests)
    assert result == plan(Snapshot(tuple(reversed(nodes))), requests)
    free = {
        one.name: {name: amount - one.allocated.get(name, 0) for name, amount in one.allocatable.items()}
        for one in nodes
    }
    by_name = {one.name: one for one in nodes}
    for request, placement in zip(requests, result.placements, strict=True):
        demand = request.needs.demand()
        for name in placement.nodes:
            assert not exclusion(by_name[name], request.needs)
            assert not shortfall(free[name], demand)
            for resource, amount in demand.items():
                free[name][resource] -= amount
        assert len(placement.nodes) + placement.unplaced == request.count
        assert bool(placement.unplaced) is bool(placement.message)
        if placement.unplaced:
            assert all(exclusion(one, request.needs) or shortfall(free[one.name], demand) for one in nodes)
