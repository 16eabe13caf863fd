"""The history of a template: one revision each, the declared one the newest, the oldest unused ones go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.resources import meta
from choregos.resources.kinds.controllerrevision import CONTROLLERREVISION
from choregos.resources.templates import declared_template, digest, instance_template
from choregos.resources.validation import validate
from choregos.scheduling import revisions

CAUSE = "kubernetes.io/change-cause"


def agent_set(version: int, *, cause: str = "", **spec: Any) -> dict[str, Any]:
    annotations = {CAUSE: cause} if cause else {}
    return {
        "apiVersion": "choregos.dev/v1",
        "kind": "AgentSet",
        "metadata": {"name": "work", "namespace": "team", "uid": "u1", "annotations": annotations},
        "spec": {"template": {"name": "t", "settings": {"version": version}}, **spec},
    }


def revised(history: list[dict[str, Any]], declared: dict[str, Any]) -> list[dict[str, Any]]:
    """The history after a controller has seen what is declared."""
    desired = revisions.revision_of(declared, history)
    kept = [one for one in history if one["metadata"]["name"] != desired["metadata"]["name"]]
    found = [one for one in history if one["metadata"]["name"] == desired["metadata"]["name"]]
    return [*kept, revisions.merged(found[0], desired) if found else desired]


def numbers(history: list[dict[str, Any]]) -> dict[int, int]:
    """Version → number."""
    return {revisions.template_of(one)["settings"]["version"]: one["revision"] for one in history}


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ([1], {1: 1}),
        ([1, 1], {1: 1}),
        ([1, 2], {1: 1, 2: 2}),
        ([1, 2, 1], {2: 2, 1: 3}),
        ([1, 2, 3, 2], {1: 1, 3: 3, 2: 4}),
    ],
)
def test_numbers(declared: list[int], expected: dict[int, int]) -> None:
    history: list[dict[str, Any]] = []
    for version in declared:
        history = revised(history, agent_set(version))
    assert numbers(history) == expected


@given(st.lists(st.integers(0, 4), min_size=1))
def test_one_revision_for_each_template_and_the_declared_one_is_the_newest(declared: list[int]) -> None:
    history: list[dict[str, Any]] = []
    for version in declared:
        before = max(numbers(history).values(), default=0)
        history = revised(history, agent_set(version))
        assert revisions.by_number(history)[-1]["metadata"]["name"] == revisions.revision_name(
            "work", digest(agent_set(version)["spec"]["template"])
        )
        assert before <= max(numbers(history).values()) <= before + 1
    assert sorted(numbers(history)) == sorted(set(declared))
    assert len(set(numbers(history).values())) == len(history)
    in_order = [version for version, _ in sorted(numbers(history).items(), key=lambda item: item[1])]
    assert in_order == sorted(set(declared), key=lambda version: len(declared) - declared[::-1].index(version))


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)), st.integers(0, 12))
def test_only_the_oldest_unused_ones_beyond_the_limit_go(stored: set[int], used: set[int], limit: int) -> None:
    history = [{"metadata": {"name": f"work-{number}"}, "revision": number} for number in stored]
    gone = {one["revision"] for one in revisions.surplus(history, {f"work-{number}" for number in used}, limit)}
    unused = stored - used
    assert gone <= unused
    assert len(unused - gone) == min(limit, len(unused))
    assert not gone or max(gone) < min(unused - gone, default=31)


def test_two_of_the_same_number_are_put_right() -> None:
    history = revised(revised([], agent_set(1)), agent_set(2))
    history[0]["revision"] = 2
    assert numbers(revised(history, agent_set(2))) == {1: 2, 2: 3}


def test_a_revision_says_whose_it_is_and_why() -> None:
    revision = revisions.revision_of(agent_set(1, cause="first", cluster="support"), ())
    template = agent_set(1)["spec"]["template"]
    assert revision["metadata"] == {
        "name": f"work-{digest(template)}",
        "namespace": "team",
        "labels": {
            "controller.kubernetes.io/hash": digest(template),
            "choregos.dev/set": "work",
            "choregos.dev/cluster": "support",
        },
        "annotations": {CAUSE: "first"},
        "ownerReferences": [
            {
                "apiVersion": "choregos.dev/v1",
                "kind": "AgentSet",
                "name": "work",
                "uid": "u1",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    assert revisions.template_of(revision) == template
    assert validate(CONTROLLERREVISION, revision).object == revision


def test_a_cause_is_kept_until_there_is_another() -> None:
    (first,) = revised([], agent_set(1, cause="first"))
    (again,) = revised([first], agent_set(1))
    assert again == first
    (renamed,) = revised([first], agent_set(1, cause="because"))
    assert meta.change_cause(renamed) == "because"


def test_what_has_the_name_is_taken_over() -> None:
    desired = revisions.revision_of(agent_set(1), ())
    stranger = {
        **desired,
        "metadata": {"name": desired["metadata"]["name"], "namespace": "team", "labels": {"a": "b"}, "uid": "u9"},
        "data": {},
        "revision": 7,
    }
    found = revisions.merged(stranger, desired)
    assert found["metadata"] == {
        **desired["metadata"],
        "labels": {"a": "b", **desired["metadata"]["labels"]},
        "uid": "u9",
    }
    assert (found["data"], found["revision"]) == (desired["data"], 1)


@pytest.mark.parametrize("revision", [{}, {"data": None}, {"data": {"spec": 5}}, {"data": {"spec": {"template": []}}}])
def test_a_revision_that_holds_no_template_gives_an_empty_one(revision: dict[str, Any]) -> None:
    assert revisions.template_of(revision) == {}


def test_a_restart_is_another_template_of_agents_and_the_same_revision() -> None:
    plain, restarted = agent_set(1)["spec"], agent_set(1, restartedAt="2026-11-22T18:59:07Z")["spec"]
    assert digest(instance_template(plain)) != digest(instance_template(restarted))
    assert (
        declared_template(instance_template(restarted))
        == declared_template(instance_template(plain))
        == plain["template"]
    )
