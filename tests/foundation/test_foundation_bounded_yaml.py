"""Whatever text is given: it is composed within the bounds, or refused at the place where it passes one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from choregos.foundation.bounded_yaml import ALIASED_SIZE_MAX, DEPTH_MAX, BoundedLoader


def load(text: str) -> Any:
    return yaml.load(text, Loader=BoundedLoader)


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 300_000,
        "{a: " * 300_000,
        "- " * 3_000,
        "\n".join(f"{' ' * level}a:" for level in range(3_000)),
        "- 1\n- [2, {3: " + "[" * DEPTH_MAX,
    ],
)
def test_deep_nesting_is_refused_where_it_passes_the_bound(text: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError, match=f"nested deeper than {DEPTH_MAX} levels"):
        load(text)


def test_nesting_up_to_the_bound_is_read() -> None:
    text = "[" * DEPTH_MAX + "]" * DEPTH_MAX
    assert json.dumps(load(text)) == text
    assert load("- [[1]]\n" * 200) == [[[1]]] * 200


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (bomb(30), 7),
        (f"a: &a {'x' * 100_000}\nb:\n" + "- *a\n" * 50, 44),
        (f"a: &a {{{', '.join(f'k{n}: v' for n in range(10_000))}}}\n" + "b: {<<: [" + "*a, " * 99 + "*a]}", 2),
    ],
)
def test_aliases_that_stand_for_much_are_refused_where_they_pass_the_bound(text: str, line: int) -> None:
    with pytest.raises(yaml.MarkedYAMLError, match=f"more than {ALIASED_SIZE_MAX} characters") as refused:
        load(text)
    mark = refused.value.problem_mark
    assert mark is not None
    assert mark.line + 1 == line


def test_aliases_are_read_and_counted_for_each_document() -> None:
    assert load("a: &a {x: 1}\nb: {<<: *a, y: *a}") == {"a": {"x": 1}, "b": {"x": 1, "y": {"x": 1}}}
    half = f"a: &a {'x' * (ALIASED_SIZE_MAX // 2)}\nb: *a\n"
    assert len(list(yaml.load_all(f"{half}---\n{half}---\n{half}", Loader=BoundedLoader))) == 3


def test_an_anchor_that_is_given_again_means_the_latest() -> None:
    assert load("a: &x 1\nb: *x\nc: &x 2\nd: *x") == {"a": 1, "b": 1, "c": 2, "d": 2}


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a 1\nb: &a {c: [*a]}"])
def test_an_alias_within_what_it_stands_for_is_refused(text: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError, match="stands within what it stands for"):
        load(text)
