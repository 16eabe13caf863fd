from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.api.apply import fieldset
from choregos.api.apply.fieldset import difference, intersection, paths, read, text, union

STEPS = st.sampled_from(["f:a", "f:b", 'k:{"name":"a"}', 'v:"a"'])
PATHS = st.lists(STEPS, min_size=1, max_size=4).map(tuple)
MEMBERS = st.frozensets(PATHS, max_size=8)


def members(fields: fieldset.FieldSet) -> frozenset[fieldset.Path]:
    return frozenset(paths(fields))


@given(MEMBERS)
def test_a_set_has_the_paths_it_is_made_of(of: Any) -> None:
    assert members(fieldset.of(*of)) == of


@given(MEMBERS, MEMBERS)
def test_sets_combine_as_sets_of_paths_do(left: Any, right: Any) -> None:
    one, other = fieldset.of(*left), fieldset.of(*right)
    assert members(union(one, other)) == left | right
    assert members(intersection(one, other)) == left & right
    assert members(difference(one, other)) == left - right


@given(MEMBERS, MEMBERS)
def test_equal_sets_are_equal_dicts_however_they_came_about(left: Any, right: Any) -> None:
    one, other = fieldset.of(*left), fieldset.of(*right)
    assert union(one, other) == union(other, one) == fieldset.of(*(left | right))
    assert difference(union(one, other), other) == fieldset.of(*(left - right))
    assert read(one) == one


def test_a_field_and_what_is_below_it_are_members_apart() -> None:
    both = fieldset.of(("f:a",), ("f:a", "f:b"))
    assert both == {"f:a": {".": {}, "f:b": {}}}
    assert difference(both, fieldset.of(("f:a",))) == {"f:a": {"f:b": {}}}
    assert difference(both, fieldset.of(("f:a", "f:b"))) == {"f:a": {}}
    assert list(paths(both)) == [("f:a",), ("f:a", "f:b")]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (("f:spec", "f:replicas"), ".spec.replicas"),
        (("f:l", 'k:{"name":"a","port":80}', "f:x"), '.l[name="a",port=80].x'),
        (("f:l", 'v:"a"'), '.l[="a"]'),
        (("f:l", "v:true"), ".l[=true]"),
        (("f:l", "i:3"), ".l[3]"),
        (("f:m", "f:a.b/c"), ".m.a.b/c"),
    ],
)
def test_paths_are_shown_as_kubernetes_shows_them(path: Any, shown: str) -> None:
    assert text(path) == shown


@pytest.mark.parametrize(
    ("written", "fields"),
    [
        ({}, {}),
        (None, {}),
        ({".": {}}, {}),
        ({".": {}, "f:a": {}}, {"f:a": {}}),
        ({"f:a": None}, {"f:a": {}}),
        ({"f:a": {".": {}}}, {"f:a": {}}),
        ({'k:{"port": 1,  "name":"a"}': {}}, {'k:{"name":"a","port":1}': {}}),
        ({'k:{"name":"a"}': {"f:x": {}}, 'k:{ "name":"a"}': {}}, {'k:{"name":"a"}': {".": {}, "f:x": {}}}),
        ({'v: "a"': {}, "i:07": {}}, {'v:"a"': {}, "i:7": {}}),
        ({"z:unknown": {"f:a": {}}, "f:": {}}, {"f:": {}}),
    ],
)
def test_what_clients_write_is_read_in_its_normal_form(written: Any, fields: Any) -> None:
    assert read(written) == fields


@pytest.mark.parametrize(
    "written",
    [
        [],
        "f:a",
        {"f:a": 1},
        {"f:a": []},
        {"a": {}},
        {"": {}},
        {"f": {}},
        {"k:x": {}},
        {"k:[]": {}},
        {"v:": {}},
        {"i:x": {}},
        {'k:{"a":"\\ud800"}': {}},
    ],
)
def test_what_is_no_set_is_refused(written: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 any message
        read(written)


SPELT = st.sampled_from(
    ["f:a", "f:b", 'k:{"name":"a"}', 'k:{ "name":"a"}', 'k:{"name" :"a"}', "i:1", "i:01", "i:001", ".", "z:unknown"]
)
WRITTEN = st.recursive(st.none() | st.just({}), lambda inner: st.dictionaries(SPELT, inner, max_size=6), max_leaves=30)


def one_after_the_other(written: Any) -> fieldset.FieldSet:
    """What `read` says, by its definition: the union of the set's parts."""
    result: fieldset.FieldSet = {}
    for step, below in (written or {}).items():
        name = {"k": 'k:{"name":"a"}', "i": "i:1", "z": ""}.get(step[0], step)
        if name:
            result = union(result, {name: {} if name == "." else one_after_the_other(below)})
    return {} if result == {".": {}} else result


@given(WRITTEN)
def test_what_is_written_is_the_union_of_its_parts(written: Any) -> None:
    whole = one_after_the_other(written)
    assert read(written) == {step: node for step, node in whole.items() if step != "."}


def test_a_large_set_is_not_copied_for_each_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(*_: Any) -> Any:
        raise AssertionError("a part that grows is copied as often as it grows")

    monkeypatch.setattr(fieldset, "union", copied)
    many = {f"f:{number}": {} for number in range(100)}
    assert read(many) == many
    spellings = {f"i:{'0' * zeros}1": {f"f:{zeros}": {}} for zeros in range(100)}
    assert read(spellings) == {"i:1": many}


def test_a_set_that_is_too_deep_is_refused() -> None:
    written: Any = {}
    for _ in range(fieldset.DEPTH_MAX + 2):
        written = {"f:a": written}
    with pytest.raises(ValueError, match="deep"):
        read(written)
