"""Values are compared as JSON: 1 is not true, and no change is lost because Python finds them equal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.api.apply.merge import merged
from choregos.resources import meta
from choregos.resources.kind import equal
from choregos.resources.schema import ANY

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from(["", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(VALUES, VALUES)
def test_two_values_are_equal_exactly_if_their_json_is(left: Any, right: Any) -> None:
    assert equal(left, right) is (json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True))
    assert equal(left, json.loads(json.dumps(left)))


@pytest.mark.parametrize(
    ("before", "after"), [(1, True), (True, 1), (0, False), ([0], [False]), ({"a": 1}, {"a": True})]
)
def test_a_change_from_a_number_to_a_truth_is_one(before: Any, after: Any) -> None:
    assert json.dumps(merged(ANY, {"of": before}, {"of": after})) == json.dumps({"of": after})
    old = {"metadata": {"generation": 1}, "spec": {"arguments": before}}
    assert meta.changed(old, {**old, "spec": {"arguments": after}})["metadata"]["generation"] == 2
    assert meta.changed(old, {**old, "spec": {"arguments": before}})["metadata"]["generation"] == 1
