from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.api.apply.fieldset import EMPTY, difference, of, paths, union
from choregos.api.apply.merge import Cleaning, added, collapsed, field_set, merged, removed, with_named
from choregos.resources.schema import ANY, Node

TEXT = Node("scalar")
WORDS = Node("list", element=TEXT, unique=True)
LABELS = Node("object", element=TEXT)
PORT = Node("object", fields={"name": TEXT, "port": TEXT, "note": TEXT})
ITEM = Node("object", fields={"name": TEXT, "value": TEXT, "words": WORDS, "labels": LABELS})
ROOT = Node(
    "object",
    fields={
        "text": TEXT,
        "number": TEXT,
        "words": WORDS,
        "plain": Node("list", element=TEXT),
        "items": Node("list", element=ITEM, keys=("name",)),
        "ports": Node("list", element=PORT, keys=("name", "port")),
        "labels": LABELS,
        "groups": Node("object", element=LABELS),
        "inner": Node("object", fields={"name": TEXT, "value": TEXT}),
        "reference": Node("object", atomic=True, fields={"name": TEXT, "uid": TEXT}),
        "free": ANY,
    },
)
"""One of everything that a structure can have."""


def names(prefix: str = "abc") -> st.SearchStrategy[str]:
    return st.sampled_from(prefix)


WORD_LISTS = st.lists(names("abcdefgh"), unique=True, max_size=6)
LABEL_MAPS = st.dictionaries(names(), names("xyz"), max_size=3)
FREE = st.recursive(
    st.integers(0, 2) | names("xy"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names(), inner, max_size=2),
)
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"name": names()}, optional={"value": st.integers(0, 3), "words": WORD_LISTS, "labels": LABEL_MAPS}
    ),
    unique_by=lambda item: item["name"],
    max_size=3,
)
OBJECTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "text": names("xyz"),
        "number": st.integers(0, 3),
        "words": WORD_LISTS,
        "plain": st.lists(names(), max_size=3),
        "items": ITEMS,
        "labels": LABEL_MAPS,
        "groups": st.dictionaries(names(), LABEL_MAPS, max_size=2),
        "inner": st.fixed_dictionaries({}, optional={"name": names(), "value": st.integers(0, 3)}),
        "reference": st.fixed_dictionaries({"name": names()}),
        "free": st.dictionaries(names(), FREE, max_size=2),
    },
)


PORT_1 = ("f:ports", 'k:{"name":"a","port":1}')


def item(name: str, *below: str) -> tuple[str, ...]:
    return ("f:items", f'k:{{"name":"{name}"}}', *below)


# Merging: what the applier says is so; what he does not speak of stays.
@pytest.mark.parametrize(
    ("live", "config", "result"),
    [
        ({"number": 1}, {"number": 3.5}, {"number": 3.5}),
        ({"text": "x"}, {"number": 1}, {"text": "x", "number": 1}),
        ({"text": "x"}, {}, {"text": "x"}),
        (
            {"labels": {"a": "1", "b": "2"}},
            {"labels": {"b": "3", "c": "4"}},
            {"labels": {"a": "1", "b": "3", "c": "4"}},
        ),
        ({"labels": {"a": "1"}}, {"labels": {}}, {"labels": {"a": "1"}}),
        ({"labels": {"a": "1"}}, {"labels": None}, {"labels": {"a": "1"}}),
        ({"labels": None}, {"labels": {"a": "1"}}, {"labels": {"a": "1"}}),
        ({"plain": ["a", "b"]}, {"plain": ["b"]}, {"plain": ["b"]}),
        ({"plain": ["a"]}, {"plain": []}, {"plain": []}),
        ({"reference": {"name": "a", "uid": "1"}}, {"reference": {"name": "b"}}, {"reference": {"name": "b"}}),
        ({"inner": {"name": "a"}}, {"inner": {"value": 1}}, {"inner": {"name": "a", "value": 1}}),
        (
            {"items": [{"name": "a", "value": 1}, {"name": "b"}]},
            {"items": [{"name": "b", "value": 2}, {"name": "c"}]},
            {"items": [{"name": "a", "value": 1}, {"name": "b", "value": 2}, {"name": "c"}]},
        ),
        (
            {"ports": [{"name": "a", "port": 1, "note": "x"}]},
            {"ports": [{"name": "a", "port": 2}]},
            {"ports": [{"name": "a", "port": 1, "note": "x"}, {"name": "a", "port": 2}]},
        ),
        (
            {"free": {"a": {"b": 1}, "l": [1]}},
            {"free": {"a": {"c": 2}, "l": [2]}},
            {"free": {"a": {"b": 1, "c": 2}, "l": [2]}},
        ),
        ({"free": {"a": 1}}, {"free": {"a": {"b": 1}}}, {"free": {"a": {"b": 1}}}),
        # What has not the form that the structure says is replaced whole.
        ({"labels": "x"}, {"labels": {"a": "1"}}, {"labels": {"a": "1"}}),
        ({"labels": {"a": "1"}}, {"labels": 5}, {"labels": 5}),
        ({"items": [{"name": "a"}, {"name": "a"}]}, {"items": [{"name": "b"}]}, {"items": [{"name": "b"}]}),
        ({"items": [{"name": "a"}]}, {"items": [{"value": 1}]}, {"items": [{"value": 1}]}),
    ],
)
def test_a_configuration_is_merged_into_what_is_there(live: Any, config: Any, result: Any) -> None:
    before = copy.deepcopy((live, config))
    assert merged(ROOT, live, config) == result
    assert (live, config) == before


# The applier's order counts; what he does not name stays before what it stood before.
@pytest.mark.parametrize(
    ("live", "config", "result"),
    [
        ("pqr", "", "pqr"),
        ("", "pqr", "pqr"),
        ("pq", "pqr", "pqr"),
        ("pqr", "pq", "pqr"),
        ("pq", "qp", "qp"),
        ("pqr", "stu", "pqrstu"),
        ("pqr", "rst", "pqrst"),
        ("pqrwv", "rstv", "pqrwstv"),
        ("rstv", "prt", "prstv"),
        ("pqrxyz", "stuxyz", "pqrstuxyz"),
        ("rpwv", "rvpw", "rvpw"),
        ("pqrs", "stup", "qrstup"),
        ("pqr", "rq", "prq"),
        ("pqr", "rp", "qrp"),
        ("cdefghij", "2h3e4kl", "cdfg2hij3e4kl"),
        ("abcdefghij", "1b2h3e4kl", "a1bcdfg2hij3e4kl"),
    ],
)
def test_elements_come_in_the_order_that_is_applied(live: str, config: str, result: str) -> None:
    assert "".join(merged(WORDS, list(live), list(config))) == result


@given(OBJECTS, OBJECTS)
def test_merging_twice_is_merging_once(live: Any, config: Any) -> None:
    once = merged(ROOT, live, config)
    assert merged(ROOT, once, config) == once
    assert merged(ROOT, live, {}) == live
    assert merged(ROOT, config, config) == config


@given(OBJECTS, OBJECTS)
def test_what_is_merged_has_the_fields_of_both_and_the_values_of_the_configuration(live: Any, config: Any) -> None:
    once = merged(ROOT, live, config)
    assert added(ROOT, once, config, changed=True) == EMPTY
    now = list(paths(field_set(ROOT, once)))
    for lost in paths(difference(field_set(ROOT, live), field_set(ROOT, once))):
        # It was empty and is not any more, or it is free-form, where anything may be replaced by anything.
        assert lost[0] == "f:free" or any(path[: len(lost)] == lost for path in now)


# What a configuration names is what its applier will own.
@pytest.mark.parametrize(
    ("config", "fields"),
    [
        ({"text": "x", "number": 0}, of(("f:text",), ("f:number",))),
        ({"inner": {"name": "a"}}, of(("f:inner", "f:name"))),
        ({"inner": {}}, of(("f:inner",))),
        ({"labels": {"a": "1"}}, of(("f:labels", "f:a"))),
        ({"labels": {}}, of(("f:labels",))),
        ({"groups": {"a": {"b": "1"}}}, of(("f:groups", "f:a"), ("f:groups", "f:a", "f:b"))),
        ({"groups": {"a": {}}}, of(("f:groups", "f:a"))),
        ({"words": ["a"]}, of(("f:words", 'v:"a"'))),
        ({"words": []}, EMPTY),
        ({"plain": ["a"]}, of(("f:plain",))),
        ({"plain": []}, of(("f:plain",))),
        ({"reference": {"name": "a"}}, of(("f:reference",))),
        ({"items": [{"name": "a", "value": 1}]}, of(item("a"), item("a", "f:name"), item("a", "f:value"))),
        ({"items": [{"name": "a", "words": []}]}, of(item("a"), item("a", "f:name"))),
        ({"items": [{"value": 1}]}, of(("f:items",))),
        ({"free": {"a": {"b": [1]}}}, of(("f:free", "f:a"), ("f:free", "f:a", "f:b"))),
        (
            {"ports": [{"name": "a", "port": 1}]},
            {"f:ports": {'k:{"name":"a","port":1}': {".": {}, "f:name": {}, "f:port": {}}}},
        ),
    ],
)
def test_the_fields_of_a_configuration(config: Any, fields: Any) -> None:
    assert field_set(ROOT, config) == fields


@pytest.mark.parametrize(
    ("old", "new", "changed", "gone"),
    [
        ({"text": "x"}, {"text": "y"}, of(("f:text",)), EMPTY),
        ({"text": "x"}, {}, EMPTY, of(("f:text",))),
        ({}, {"inner": {"name": "a"}}, of(("f:inner",), ("f:inner", "f:name")), EMPTY),
        ({"inner": {"name": "a"}}, {"inner": {"value": 1}}, of(("f:inner", "f:value")), of(("f:inner", "f:name"))),
        ({"inner": {"name": "a"}}, {}, EMPTY, of(("f:inner",), ("f:inner", "f:name"))),
        ({"words": ["a", "b"]}, {"words": ["b", "a"]}, EMPTY, EMPTY),
        ({"words": ["a"]}, {"words": ["b"]}, of(("f:words", 'v:"b"')), of(("f:words", 'v:"a"'))),
        ({"plain": ["a", "b"]}, {"plain": ["b", "a"]}, of(("f:plain",)), EMPTY),
        (
            {"items": [{"name": "a", "value": 1}]},
            {"items": [{"name": "a", "value": 2}]},
            of(item("a", "f:value")),
            EMPTY,
        ),
        (
            {"items": [{"name": "a"}]},
            {"items": [{"name": "b"}]},
            of(item("b"), item("b", "f:name")),
            of(item("a"), item("a", "f:name")),
        ),
        ({"reference": {"name": "a"}}, {"reference": {"name": "b"}}, of(("f:reference",)), EMPTY),
        ({"free": {"a": 1}}, {"free": {"a": {"b": 1}}}, of(("f:free", "f:a"), ("f:free", "f:a", "f:b")), EMPTY),
        ({"free": {"a": {"b": 1}}}, {"free": {"a": 1}}, of(("f:free", "f:a")), of(("f:free", "f:a", "f:b"))),
        ({"free": {"a": None}}, {"free": {"a": {"b": 1}}}, of(("f:free", "f:a"), ("f:free", "f:a", "f:b")), EMPTY),
        ({"words": ["a", "a"]}, {"words": ["b", "b"]}, of(("f:words",)), EMPTY),
        ({"labels": None}, {"labels": {"a": "1"}}, of(("f:labels", "f:a")), EMPTY),
    ],
)
def test_what_a_change_adds_and_removes(old: Any, new: Any, changed: Any, gone: Any) -> None:
    assert added(ROOT, old, new, changed=True) == changed
    assert added(ROOT, new, old, changed=False) == gone


@given(OBJECTS, OBJECTS)
def test_only_equal_objects_do_not_differ(old: Any, new: Any) -> None:
    changed, gone = added(ROOT, old, new, changed=True), added(ROOT, new, old, changed=False)
    assert not set(paths(changed)) & set(paths(gone))
    if not changed and not gone:
        assert merged(ROOT, old, new) == new
        assert field_set(ROOT, old) == field_set(ROOT, new)


@pytest.mark.parametrize(
    ("value", "fields", "rest"),
    [
        ({"text": "x", "number": 1}, of(("f:text",)), {"number": 1}),
        ({"inner": {"name": "a", "value": 1}}, of(("f:inner", "f:name")), {"inner": {"value": 1}}),
        ({"inner": {"name": "a", "value": 1}}, of(("f:inner",)), {}),
        ({"words": ["a", "b", "c"]}, of(("f:words", 'v:"b"')), {"words": ["a", "c"]}),
        ({"items": [{"name": "a", "value": 1}]}, of(item("a", "f:value")), {"items": [{"name": "a"}]}),
        ({"items": [{"name": "a", "value": 1}]}, of(item("a")), {"items": []}),
        ({"plain": ["a"]}, of(("f:plain", "i:0")), {"plain": ["a"]}),
        ({"text": "x"}, of(("f:text", "f:below")), {"text": "x"}),
    ],
)
def test_fields_are_removed_with_all_that_is_below_them(value: Any, fields: Any, rest: Any) -> None:
    assert removed(ROOT, value, fields) == rest


@given(OBJECTS)
def test_removing_what_a_value_has_leaves_nothing_of_it(value: Any) -> None:
    rest = removed(ROOT, value, with_named(ROOT, field_set(ROOT, value)))
    # An empty list is owned by nobody, so it stays.
    assert all(part == [] for part in rest.values())


def test_above_a_field_only_what_the_structure_names_is_wanted_with_it() -> None:
    fields = of(("f:inner", "f:name"), ("f:groups", "f:a", "f:b"), item("a", "f:value"))
    assert with_named(ROOT, fields) == union(fields, of(("f:inner",), ("f:groups",), ("f:items",)))


def test_what_has_become_one_value_is_owned_as_one() -> None:
    older = of(
        ("f:plain", 'v:"a"'), ("f:reference", "f:name"), ("f:text", "f:x"), ("f:inner", "f:name"), ("f:free", "f:a")
    )
    newer = of(("f:plain",), ("f:reference",), ("f:text",), ("f:inner", "f:name"), ("f:free", "f:a"))
    assert collapsed(ROOT, older) == newer
    assert collapsed(ROOT, of(item("a"), item("a", "f:reference", "f:x"))) == of(
        item("a"), item("a", "f:reference", "f:x")
    )


@pytest.mark.parametrize(
    ("config", "cleaned", "unknown", "faults"),
    [
        ({"text": None, "number": 1}, {"number": 1}, [], []),
        ({"other": 1, "inner": {"name": "a", "x": 1}}, {"inner": {"name": "a"}}, ["other", "inner.x"], []),
        ({"labels": {"a": None}}, {"labels": {"a": None}}, [], []),
        ({"free": {"a": None, "b": {"$x": 1}}}, {"free": {"a": None, "b": {"$x": 1}}}, [], []),
        ({"items": [{"name": "a", "value": None, "x": 1}]}, {"items": [{"name": "a"}]}, ["items[0].x"], []),
        ({"items": [{"value": 1}, 5]}, {"items": [{"value": 1}, 5]}, [], ["items[0]", "items[1]"]),
        ({"items": [{"name": "a"}, {"name": "a"}]}, {"items": [{"name": "a"}, {"name": "a"}]}, [], ["items[1]"]),
        ({"words": ["a", "a", None, []]}, {"words": ["a", "a", None, []]}, [], ["words[1]", "words[2]", "words[3]"]),
        ({"plain": ["a", "a"]}, {"plain": ["a", "a"]}, [], []),
        ({"labels": "x"}, {"labels": "x"}, [], []),
    ],
)
def test_a_configuration_is_cleaned_of_what_nobody_can_own(
    config: Any, cleaned: Any, unknown: list[str], faults: list[str]
) -> None:
    cleaning = Cleaning()
    assert cleaning.clean(ROOT, config) == cleaned
    assert (cleaning.unknown, [fault.path for fault in cleaning.faults]) == (unknown, faults)
