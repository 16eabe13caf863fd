"""The patch of an apply: what it says is so afterwards, what it no longer says is gone, the rest is left alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.client.merge import LAST_APPLIED, apply_patch, last_applied, with_last_applied


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def spec_after(live: dict[str, Any], desired: dict[str, Any]) -> Any:
    return merged(live, apply_patch(live, desired))["spec"]


def applied(spec: dict[str, Any]) -> dict[str, Any]:
    return with_last_applied({"metadata": {"name": "x"}, "spec": spec})


@pytest.mark.parametrize(
    ("before", "others", "now", "expected"),
    [
        ({"a": 1}, {}, {"a": 2}, {"a": 2}),
        ({"a": 1, "b": 1}, {}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"default": 9}, {"a": 1}, {"a": 1, "default": 9}),
        ({"a": {"x": 1, "y": 2}}, {}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {}, {"a": 5}, {"a": 5}),
        ({"a": 5}, {}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": [1, 2]}, {}, {"a": [2]}, {"a": [2]}),
        ({"a": 1}, {}, {"a": True}, {"a": True}),
        ({"a": 1}, {}, {"a": None}, {}),
        ({}, {"set": 1}, {}, {"set": 1}),
    ],
)
def test_three_ways_are_merged(before: Any, others: Any, now: Any, expected: Any) -> None:
    live = applied(before)
    live["spec"] = {**live["spec"], **others}
    assert spec_after(live, {"metadata": {"name": "x"}, "spec": now}) == expected


def test_nothing_to_do_is_an_empty_patch() -> None:
    live = {**applied({"a": 1}), "status": {"x": 1}}
    live["spec"]["default"] = 2
    assert apply_patch(live, {"metadata": {"name": "x"}, "spec": {"a": 1}}) == {}


def test_the_annotation_is_kubectls_own() -> None:
    text = with_last_applied({"kind": "A", "apiVersion": "v1", "metadata": {"name": "x"}})["metadata"]["annotations"]
    assert text == {LAST_APPLIED: '{"apiVersion":"v1","kind":"A","metadata":{"annotations":{},"name":"x"}}\n'}


def test_a_damaged_annotation_counts_as_none() -> None:
    for text in ("{", "[]", "1"):
        assert last_applied({"metadata": {"annotations": {LAST_APPLIED: text}}}) == {}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=1) | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
SPECS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


def contains(whole: Any, part: Any) -> bool:
    """Whether everything that `part` says is so in `whole`; a null says that there is nothing."""
    if isinstance(part, dict):
        return (
            all(
                (value is None and whole.get(key) is None)
                or (key in whole and contains(whole[key], value))
                or (isinstance(value, dict) and key not in whole and contains({}, value))
                for key, value in part.items()
            )
            if isinstance(whole, dict)
            else False
        )
    return bool(whole == part)


@given(SPECS, SPECS, SPECS)
def test_an_apply_is_idempotent_and_says_what_it_says(first: Any, others: Any, second: Any) -> None:
    live = merged({"metadata": {"name": "x"}, "spec": {}}, applied(first))
    live["spec"] = merged(live["spec"], others)
    untouched = copy.deepcopy(live)
    desired = {"metadata": {"name": "x"}, "spec": second}
    patch = apply_patch(live, desired)
    assert live == untouched
    after = merged(live, patch)
    assert contains(after["spec"], second)
    assert apply_patch(after, desired) == {}
