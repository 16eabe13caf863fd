"""Structured merge and difference: which fields a value has, which of them are new, and a value merged or cut down.

What is merged follows the schema (`typed`); what is not taken apart is compared and replaced whole. A value of another
form than the schema says is replaced whole too, and validation complains of it. Invariants: merging twice is merging
once; values given in are not changed, results share parts with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from choregos.api.apply.fieldset import EMPTY, SELF, FieldSet, is_member
from choregos.api.apply.typed import element_step, parts
from choregos.foundation.errors import FieldError
from choregos.resources.kind import Object, equal
from choregos.resources.schema import ANY, Node
from choregos.resources.validation import dotted


def field_set(node: Node, value: Any) -> FieldSet:
    """The fields that a configuration names: what whoever applies it will own.

    The leaves; elements of lists and keys of maps as well, because to name them is to ask for them to exist.
    """
    result: dict[str, Any] = {}
    for step, (inner, part, known) in (parts(node, value) or EMPTY).items():
        below = EMPTY if inner.form == "scalar" else field_set(inner, part)
        if not known:
            result[step] = {SELF: EMPTY, **below} if below else EMPTY
        elif below or not isinstance(part, list) or parts(inner, part) is None:
            result[step] = below
    return result


def added(node: Node, old: Any, new: Any, *, changed: bool) -> FieldSet:
    """The fields of `new` that `old` has not, inner ones included; with `changed`, also the leaves that differ.

    The place of an element in its list does not count.
    """
    result = {}
    before = parts(node, old) or EMPTY
    for step, (inner, part, _) in (parts(node, new) or EMPTY).items():
        if step not in before:
            below = added(inner, None, part, changed=True)
            result[step] = {SELF: EMPTY, **below} if below else EMPTY
            continue
        was = before[step][1]
        if not equal(was, part):
            below = added(inner, was, part, changed=changed)
            whole = changed and None in (parts(inner, was), parts(inner, part))
            if below or whole:
                result[step] = {SELF: EMPTY, **below} if below and whole else below
    return result


def merged(node: Node, live: Any, config: Any) -> Any:
    """`live` with everything in it that `config` names."""
    if equal(live, config):
        return live
    mine, theirs = parts(node, live), parts(node, config)
    if mine is None or theirs is None:
        return config
    if not isinstance(live, list | dict):
        return live if config is None else config
    result = {
        step: merged(inner, mine[step][1], part) if step in mine else part for step, (inner, part, _) in theirs.items()
    }
    if isinstance(live, dict):
        return {**live, **{step[2:]: part for step, part in result.items()}}
    return [result[step] if step in result else mine[step][1] for step in in_order(mine, theirs)]


def in_order(live: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The elements of both lists. Those of `config` keep its order; what only `live` has stays before the element it
    stood before, and before what is new there."""
    elements = list(live)
    position = {step: index for index, step in enumerate(elements)}
    result: list[str] = []
    new: list[str] = []
    start = 0
    for step in config:
        if step not in position:
            new.append(step)
            continue
        end = position[step] if position[step] >= start else len(elements)
        result += [other for other in elements[start:end] if other not in config]
        result += [*new, step]
        new, start = [], end + 1
    return result + [other for other in elements[start:] if other not in config] + new


def removed(node: Node, value: Any, fields: FieldSet) -> Any:
    """`value` without the members of `fields` and all that is below them."""
    inside = parts(node, value)
    if not fields or not inside:
        return value
    kept = {
        step: part if step not in fields else removed(inner, part, fields[step])
        for step, (inner, part, _) in inside.items()
        if step not in fields or not is_member(fields[step])
    }
    return list(kept.values()) if isinstance(value, list) else {step[2:]: part for step, part in kept.items()}


def with_named(node: Node, fields: FieldSet) -> FieldSet:
    """`fields` and those above them that the schema knows by name: whoever owns a field wants what it stands in."""
    result = {}
    for step, below in fields.items():
        if step == SELF or not below:
            result[step] = below
            continue
        name = step[2:] if step[0] == "f" else None
        child = node.at(name) if name is not None else node.element
        inner = with_named(child, below) if child is not None else below
        result[step] = {SELF: EMPTY, **inner} if name in node.fields else inner
    return result


def collapsed(node: Node, fields: FieldSet) -> FieldSet:
    """`fields`, written under an older schema: what is one value now is owned as one."""
    result = {}
    for step, below in fields.items():
        if step == SELF or not below:
            result[step] = below
            continue
        child = (node.at(step[2:]) if step[0] == "f" else node.element) or ANY
        whole = child.atomic or child.form == "scalar" or (child.form == "list" and not child.is_named_list)
        result[step] = EMPTY if whole else collapsed(child, below)
    return result


class Cleaning:
    """Takes out of a configuration what cannot be owned: unknown fields, and nulls, which are the same as nothing.

    Attributes:
        unknown: paths of fields that the schema does not know.
        faults: elements of lists that nothing tells apart.
    """

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.faults: list[FieldError] = []

    def clean(self, node: Node, value: Any, path: tuple[int | str, ...] = ()) -> Any:
        if node.form == "object" and isinstance(value, dict):
            return dict(self._fields(node, value, path))
        if node.form == "list" and isinstance(value, list) and node.element is not None:
            if node.is_named_list:
                self.faults.extend(_element_faults(node, value, path))
            return [self.clean(node.element, item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _fields(self, node: Node, value: Object, path: tuple[int | str, ...]) -> Iterable[tuple[str, Any]]:
        for name, part in value.items():
            child = node.fields.get(name)
            if child is None and node.element is None:
                self.unknown.append(dotted((*path, name)))
            elif child is None or part is not None:
                inner = child or node.at(name)
                yield name, part if inner.form == "scalar" else self.clean(inner, part, (*path, name))


def _element_faults(node: Node, items: list[Any], path: tuple[int | str, ...]) -> Iterable[FieldError]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        step = element_step(node, item)
        if not step:
            needed = f"an object with {', '.join(node.keys)}" if node.keys else "text, a number, true or false"
            yield FieldError(dotted((*path, index)), f"expected {needed}, by which it is known in its list")
        elif step in seen:
            yield FieldError(dotted((*path, index)), f"{step[2:]} is listed twice", "FieldValueDuplicate")
        seen.add(step)
