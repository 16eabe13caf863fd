from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.api.rules import codec
from choregos.api.rules.patch import apply_operations, check_growth, merge
from choregos.api.rules.status import Refusal
from choregos.foundation.errors import TooLarge

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
OBJECT = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


# RFC 7386, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_examples_of_its_specification(target: Any, patch: Any, result: Any) -> None:
    assert merge(target, patch) == result


@given(OBJECT, OBJECT)
def test_a_merge_patch_applied_twice_is_the_same_as_once(target: Any, patch: Any) -> None:
    before = copy.deepcopy(target)
    once = merge(target, patch)
    assert merge(once, patch) == once
    assert target == before


# RFC 6902, appendix A, and RFC 6901.
@pytest.mark.parametrize(
    ("document", "operations", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["a", "c"]}, [{"op": "add", "path": "/foo/1", "value": "b"}], {"foo": ["a", "b", "c"]}),
        ({"foo": ["a"]}, [{"op": "add", "path": "/foo/-", "value": ["b"]}], {"foo": ["a", ["b"]]}),
        ({"baz": 1, "foo": 2}, [{"op": "remove", "path": "/baz"}], {"foo": 2}),
        ({"foo": ["a", "b", "c"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "c"]}),
        ({"baz": 1}, [{"op": "replace", "path": "/baz", "value": None}], {"baz": None}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
        ({"f": [1, 2, 3]}, [{"op": "move", "from": "/f/0", "path": "/f/2"}], {"f": [2, 3, 1]}),
        ({"a": {"b": []}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": []}, "c": {"b": []}}),
        ({"a/b": 1, "m~n": 2}, [{"op": "test", "path": "/a~1b", "value": 1}], {"a/b": 1, "m~n": 2}),
        ({"m~n": 2}, [{"op": "remove", "path": "/m~0n"}], {}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"": 1}, [{"op": "remove", "path": "/"}], {}),
    ],
)
def test_json_patch_follows_the_examples_of_its_specification(document: Any, operations: Any, result: Any) -> None:
    assert apply_operations(document, operations) == result


@pytest.mark.parametrize(
    ("document", "operation", "code"),
    [
        ({}, {"op": "remove", "path": "/a"}, 422),
        ({}, {"op": "replace", "path": "/a", "value": 1}, 422),
        ({}, {"op": "add", "path": "/a/b", "value": 1}, 422),
        ({"a": [1]}, {"op": "add", "path": "/a/2", "value": 1}, 422),
        ({"a": [1]}, {"op": "add", "path": "/a/01", "value": 1}, 422),
        ({"a": [1]}, {"op": "remove", "path": "/a/-"}, 422),
        ({"a": [1]}, {"op": "remove", "path": "/a/99999999999999999999"}, 422),
        ({"a": 1}, {"op": "test", "path": "/a", "value": True}, 422),
        ({"a": {"b": 1}}, {"op": "move", "from": "/a", "path": "/a/b"}, 422),
        ({"a": 1}, {"op": "add", "path": "/a/b", "value": 1}, 422),
        ({}, {"op": "add", "path": "a", "value": 1}, 400),
        ({}, {"op": "add", "path": "/a"}, 400),
        ({}, {"op": "jump", "path": "/a"}, 400),
        ({}, {"op": "move", "path": "/a"}, 400),
        ({}, "no operation", 400),
    ],
)
def test_a_json_patch_that_does_not_fit_is_refused(document: Any, operation: Any, code: int) -> None:
    before = copy.deepcopy(document)
    with pytest.raises(Refusal) as caught:
        apply_operations(document, [operation])
    assert caught.value.code == code
    assert document == before
    # Of what is invalid, clients show the causes only.
    assert [cause.path for cause in caught.value.causes] == (["patch[0]"] if code == 422 else [])


def test_a_json_patch_cannot_grow_without_bound() -> None:
    document = {"a": ["x" * 100_000]}
    double = [{"op": "copy", "from": "/a", "path": f"/{number}"} for number in range(100)]
    with pytest.raises(Refusal) as caught:
        apply_operations(document, double)
    assert caught.value.code == 413


def test_what_a_json_patch_copies_is_counted() -> None:
    """Each copy of a list into itself doubles it: a patch of some hundred bytes made 400,000 values."""
    document = {"a": [[]] * 400}
    double = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 10
    assert len(apply_operations(document, double[:1])["a"]) == 401
    with pytest.raises(Refusal, match=r"operation 1 .* copies more than 1000 values") as caught:
        apply_operations(document, double)
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    scalars = [{"op": "copy", "from": "/b", "path": "/c"}] * 1001
    with pytest.raises(Refusal, match=r"operation 1000 .* copies more than 1000 values"):
        apply_operations({"b": 1}, scalars)


def test_an_object_grows_to_no_more_values_than_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "VALUES_MAX", 4)
    check_growth({}, {"a": [1, 2]})
    check_growth({"a": [1, 2, 3, 4]}, {"a": [1, 2, 3]})
    with pytest.raises(TooLarge, match="more than 4 values"):
        check_growth({}, {"a": [1, {"b": 2}]})
    with pytest.raises(TooLarge):
        check_growth({"a": [1, 2, 3]}, {"a": [1, 2, 3, 4]})


@given(OBJECT, st.lists(st.builds(dict, op=st.sampled_from(["add", "remove", "copy", "test", "move"])), max_size=3))
def test_no_json_patch_changes_the_document_it_was_given(document: Any, operations: Any) -> None:
    before = copy.deepcopy(document)
    for operation in operations:
        operation |= {"path": "/a", "from": "/b", "value": 1}
    with contextlib.suppress(Refusal):
        apply_operations(document, operations)
    assert document == before
