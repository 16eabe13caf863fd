from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.api.apply.strategic import patched
from choregos.api.rules.patch import merge
from choregos.api.rules.status import Refusal
from choregos.resources.schema import ANY, Node

TEXT = Node("scalar")
ITEM = Node("object", fields={"name": TEXT, "value": TEXT, "words": Node("list", element=TEXT, unique=True)})
ROOT = Node(
    "object",
    fields={
        "text": TEXT,
        "number": TEXT,
        "inner": Node("object", fields={"a": TEXT, "b": TEXT}),
        "labels": Node("object", element=TEXT),
        "words": Node("list", element=TEXT, unique=True),
        "plain": Node("list", element=ITEM),
        "items": Node("list", element=ITEM, keys=("name",)),
        "free": ANY,
    },
)


def items(*names: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"name": name, **fields} for name in names]


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        # Objects and scalars, as in a merge patch.
        ({"text": "x"}, {"number": 1}, {"text": "x", "number": 1}),
        ({"text": "x"}, {"text": None}, {}),
        ({}, {"text": None}, {}),
        ({"inner": {"a": 1}}, {"inner": {"b": 2}}, {"inner": {"a": 1, "b": 2}}),
        ({"labels": {"a": "1"}}, {"labels": {"a": None, "b": "2"}}, {"labels": {"b": "2"}}),
        ({"text": "x"}, {"inner": {"a": 1, "b": None}}, {"text": "x", "inner": {"a": 1}}),
        ({"inner": 5}, {"inner": {"a": 1}}, {"inner": {"a": 1}}),
        # Lists: replaced where nothing names the elements, merged where something does.
        ({"plain": items("a")}, {"plain": items("b")}, {"plain": items("b")}),
        ({"free": {"l": [1, 2]}}, {"free": {"l": [3]}}, {"free": {"l": [3]}}),
        ({"items": items("a", value=1)}, {"items": items("a", value=2)}, {"items": items("a", value=2)}),
        ({"items": items("a", value=1)}, {"items": [{"name": "a", "value": None}]}, {"items": items("a")}),
        ({"items": items("a")}, {"items": []}, {"items": items("a")}),
        ({"items": items("a")}, {"items": None}, {}),
        ({}, {"items": items("a")}, {"items": items("a")}),
        ({"words": ["a", "b"]}, {"words": ["b", "c"]}, {"words": ["a", "b", "c"]}),
        (
            {"items": items("a", words=["x"])},
            {"items": items("a", words=["y"])},
            {"items": items("a", words=["y", "x"])},
        ),
        # What is new and not placed comes first, as in Kubernetes.
        ({"items": items("a", "b")}, {"items": items("c")}, {"items": items("c", "a", "b")}),
        ({"items": items("a", "b", "c")}, {"items": items("c", "a")}, {"items": items("b", "c", "a")}),
        # $patch
        ({"inner": {"a": 1}}, {"inner": {"$patch": "replace", "b": 2}}, {"inner": {"b": 2}}),
        ({"inner": {"a": 1}}, {"inner": {"$patch": "merge", "b": 2}}, {"inner": {"a": 1, "b": 2}}),
        ({"inner": {"a": 1}}, {"inner": {"$patch": "delete"}}, {"inner": {}}),
        ({}, {"inner": {"$patch": "delete"}}, {}),
        ({"text": "x"}, {"$patch": "replace", "number": 1}, {"number": 1}),
        ({"text": "x"}, {"$patch": "delete"}, {}),
        ({"items": items("a", "b")}, {"items": [{"name": "a", "$patch": "delete"}]}, {"items": items("b")}),
        ({"items": items("a")}, {"items": [{"name": "z", "$patch": "delete"}]}, {"items": items("a")}),
        ({"items": items("a", "b")}, {"items": [{"$patch": "replace"}, {"name": "c"}]}, {"items": items("c")}),
        ({"items": items("a", "b")}, {"items": [{"$patch": "replace"}]}, {"items": []}),
        (
            {"items": items("a", value=1)},
            {"items": [{"name": "a", "$patch": "replace", "words": ["x"]}]},
            {"items": []},
        ),
        ({"plain": items("a")}, {"plain": [{"$patch": "delete", "name": "a"}, {"name": "b"}]}, {"plain": items("b")}),
        # $deleteFromPrimitiveList
        ({"words": ["a", "b", "c"]}, {"$deleteFromPrimitiveList/words": ["a", "c", "z"]}, {"words": ["b"]}),
        ({"words": ["a"]}, {"$deleteFromPrimitiveList/words": ["a"], "words": ["b"]}, {"words": ["b"]}),
        ({}, {"$deleteFromPrimitiveList/words": ["a"]}, {}),
        # $setElementOrder
        ({"items": items("a", "b")}, {"$setElementOrder/items": items("b", "a")}, {"items": items("b", "a")}),
        (
            {"items": items("a", "b")},
            {"$setElementOrder/items": items("a", "c", "b"), "items": items("c")},
            {"items": items("a", "c", "b")},
        ),
        (
            {"items": items("a", "x", "b", "y")},
            {"$setElementOrder/items": items("b", "a"), "items": items("b", value=1)},
            {"items": [{"name": "x"}, {"name": "b", "value": 1}, {"name": "a"}, {"name": "y"}]},
        ),
        ({"words": ["a", "b", "c"]}, {"$setElementOrder/words": ["c", "a"]}, {"words": ["b", "c", "a"]}),
        ({"words": ["a"]}, {"$setElementOrder/words": ["b", "a", "b", "z"], "words": ["b"]}, {"words": ["b", "a"]}),
        ({}, {"$setElementOrder/items": items("a")}, {"items": []}),
        # $retainKeys
        ({"inner": {"a": 1, "b": 2}}, {"inner": {"$retainKeys": ["a"], "a": 3}}, {"inner": {"a": 3}}),
        ({"inner": {"a": 1, "b": 2}}, {"inner": {"$retainKeys": ["b"]}}, {"inner": {"b": 2}}),
        ({"inner": {"a": 1}}, {"inner": {"$retainKeys": ["b"], "a": None, "b": 2}}, {"inner": {"b": 2}}),
    ],
)
def test_a_patch_does_what_kubernetes_does_with_it(document: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy((document, patch))
    assert patched(ROOT, document, patch) == result
    assert (document, patch) == before


@pytest.mark.parametrize(
    "patch",
    [
        {"$patch": "destroy"},
        {"inner": {"$patch": 5}},
        {"inner": {"$retainKeys": "a"}},
        {"inner": {"$retainKeys": ["a"], "b": 1}},
        {"inner": {"$retainKeys": [{}]}},
        {"items": [{"value": 1}]},
        {"items": ["a"]},
        {"items": [{"$patch": "delete"}]},
        {"items": [{"name": "a", "$patch": "destroy"}]},
        {"words": [{}]},
        {"words": [None]},
        {"$deleteFromPrimitiveList/words": "a"},
        {"$deleteFromPrimitiveList/words": [{}]},
        {"$setElementOrder/items": "a"},
        {"$setElementOrder/items": [{}]},
        {"$setElementOrder/items": items("b"), "items": items("a")},
        {"$setElementOrder/items": items("b", "a"), "items": items("a", "b")},
    ],
)
def test_a_patch_that_makes_no_sense_is_refused(patch: Any) -> None:
    with pytest.raises(Refusal) as raised:
        patched(ROOT, {"items": items("a"), "words": ["a"], "inner": {"a": 1}}, patch)
    assert raised.value.code == 400


WORDS = (
    "text",
    "inner",
    "items",
    "words",
    "plain",
    "free",
    "name",
    "value",
    "$patch",
    "$retainKeys",
    "delete",
    "replace",
)
KEYS = st.sampled_from((*WORDS, "$setElementOrder/items", "$setElementOrder/words", "$deleteFromPrimitiveList/words"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=16,
)


@given(st.dictionaries(KEYS, JSON), st.dictionaries(KEYS, JSON))
def test_any_patch_of_any_document_is_made_or_refused(document: Any, patch: Any) -> None:
    before = copy.deepcopy((document, patch))
    with contextlib.suppress(Refusal):
        patched(ROOT, document, patch)
    assert (document, patch) == before


PLAIN = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.lists(st.integers(0, 3), max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from("abc"), PLAIN), st.dictionaries(st.sampled_from("abc"), PLAIN))
def test_without_directives_and_named_lists_it_is_a_merge_patch(document: Any, patch: Any) -> None:
    assert patched(ANY, document, patch) == merge(document, patch)
