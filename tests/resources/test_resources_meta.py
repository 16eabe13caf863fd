"""Conditions, generations, finalizers and owners; and that nothing given in is changed."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from choregos.resources import meta

T0, T1 = 1_700_000_000_000, 1_700_000_060_000


def an_object(**metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "choregos.dev/v1",
        "kind": "AgentSet",
        "metadata": {"name": "x", "namespace": "default", **metadata},
        "spec": {"replicas": 1},
    }


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first = meta.set_condition([], "Ready", False, "Starting", "0 of 3", now_ms=T0, generation=1)
    second = meta.set_condition(first, "Ready", False, "Starting", "1 of 3", now_ms=T1, generation=2)
    assert second == [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Starting",
            "message": "1 of 3",
            "lastTransitionTime": first[0]["lastTransitionTime"],
            "observedGeneration": 2,
        }
    ]


def test_a_condition_that_says_the_same_again_is_equal() -> None:
    first = meta.set_condition([], "Ready", True, "AllReady", "", now_ms=T0, generation=1)
    assert meta.set_condition(first, "Ready", True, "AllReady", "", now_ms=T1, generation=1) == first


def test_a_condition_that_turns_has_a_new_time_and_its_old_place() -> None:
    conditions = meta.set_condition([], "Ready", False, "Starting", "", now_ms=T0, generation=1)
    conditions = meta.set_condition(conditions, "Progressing", True, "Starting", "", now_ms=T0, generation=1)
    turned = meta.set_condition(conditions, "Ready", True, "AllReady", "", now_ms=T1, generation=1)
    assert [entry["type"] for entry in turned] == ["Ready", "Progressing"]
    assert turned[0]["lastTransitionTime"] > conditions[0]["lastTransitionTime"]


TYPES = st.sampled_from(["Ready", "Progressing", "RegionReady"])


@given(st.lists(st.tuples(TYPES, st.booleans(), st.integers(0, 10**9)), max_size=20))
def test_there_is_one_condition_of_each_type_and_input_is_untouched(steps: list[tuple[str, bool, int]]) -> None:
    conditions: list[dict[str, Any]] = []
    for kind, status, now_ms in steps:
        before = copy.deepcopy(conditions)
        following = meta.set_condition(conditions, kind, status, "R", "", now_ms=now_ms, generation=1)
        assert conditions == before
        conditions = following
        obj = {"status": {"conditions": conditions}}
        assert meta.is_true(obj, kind) is status
    assert len({entry["type"] for entry in conditions}) == len(conditions)


def test_a_missing_condition_is_not_true() -> None:
    assert meta.condition({}, "Ready") is None
    assert not meta.is_true({"status": {}}, "Ready")


def test_a_created_object_has_the_servers_stamps() -> None:
    obj = an_object()
    made = meta.created(obj, "u1", T0)
    assert made["metadata"] == {
        "name": "x",
        "namespace": "default",
        "uid": "u1",
        "creationTimestamp": "2023-11-14T22:13:20Z",
        "generation": 1,
    }
    assert "uid" not in obj["metadata"]


def test_only_a_changed_spec_raises_the_generation() -> None:
    old = meta.created(an_object(), "u1", T0)
    relabelled = meta.changed(old, {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}})
    assert meta.generation(relabelled) == 1
    observed = meta.changed(old, {**old, "status": {"replicas": 1}})
    assert meta.generation(observed) == 1
    scaled = meta.changed(old, {**old, "spec": {"replicas": 2}})
    assert meta.generation(scaled) == 2


def test_a_successor_cannot_change_what_the_server_owns() -> None:
    old = meta.created(an_object(), "u1", T0)
    forged = meta.changed(old, an_object(uid="u2", generation=99, creationTimestamp="2000-01-01T00:00:00Z"))
    assert forged["metadata"] == old["metadata"]


def test_deletion_begins_once() -> None:
    old = meta.created(an_object(), "u1", T0)
    leaving = meta.deleting(old, T1, 30)
    assert meta.is_deleting(leaving)
    assert meta.generation(leaving) == 2
    assert leaving["metadata"]["deletionGracePeriodSeconds"] == 30
    assert meta.deleting(leaving, T1 + 1, 0) == leaving


def test_finalizers_come_and_go() -> None:
    obj = an_object()
    held = meta.with_finalizer(obj, meta.AGENTS_FINALIZER)
    assert meta.has_finalizer(held, meta.AGENTS_FINALIZER)
    assert meta.with_finalizer(held, meta.AGENTS_FINALIZER) == held
    assert meta.without_finalizer(held, meta.AGENTS_FINALIZER) == obj
    assert meta.without_finalizer(obj, "other") == obj


def test_an_owner_is_named_with_its_uid_and_as_the_controller() -> None:
    assert meta.controlled_by(an_object(uid="u1")) == {
        "apiVersion": "choregos.dev/v1",
        "kind": "AgentSet",
        "name": "x",
        "uid": "u1",
        "controller": True,
        "blockOwnerDeletion": True,
    }
