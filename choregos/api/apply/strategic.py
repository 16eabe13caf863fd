"""Strategic merge patches: Kubernetes' patches that merge lists by their elements, with directives for all else.

Lists merge where the schema says what names their elements (`typed`), all others are replaced. Directives: `$patch`
(`delete`, `replace`, `merge`), `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`. Documents
given in are not changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from choregos.api.apply.typed import element_step
from choregos.api.rules.status import bad_request
from choregos.resources.schema import ANY, Node

_PATCH, _RETAIN = "$patch", "$retainKeys"
_ORDER, _DELETE = "$setElementOrder/", "$deleteFromPrimitiveList/"
_GONE = object()


def patched(node: Node, original: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """An object with `patch` applied.

    Raises:
        Refusal: 400, the patch makes no sense.
    """
    directive = patch.get(_PATCH, "merge")
    _require(directive in ("merge", "replace", "delete"), f"unknown {_PATCH} directive {directive!r}")
    if directive == "delete":
        return {}
    names = dict.fromkeys(name.removeprefix(_ORDER).removeprefix(_DELETE) for name in patch)
    result = {} if directive == "replace" else _retained(original, patch)
    for name in names:
        if name in (_PATCH, _RETAIN):
            continue
        part = _part(node.at(name), result.pop(name, _GONE), patch, name)
        if part is not _GONE:
            result[name] = part
    return result


def _retained(original: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    if _RETAIN not in patch:
        return dict(original)
    names = set(_scalars(patch[_RETAIN], _RETAIN))
    said = (name for name, part in patch.items() if part is not None and not name.startswith("$"))
    _require(all(name in names for name in said), f"{_RETAIN} must name every field that the patch sets")
    return {name: part for name, part in original.items() if name in names}


def _part(node: Node, current: Any, patch: Mapping[str, Any], name: str) -> Any:
    """What becomes of one field; `_GONE` if it is removed."""
    change = patch.get(name, _GONE)
    if change is None:
        return _GONE
    if isinstance(change, dict):
        if change.get(_PATCH) == "delete" and not isinstance(current, dict):
            return _GONE
        return patched(node, current if isinstance(current, dict) else {}, change)
    order = patch.get(_ORDER + name)
    if node.is_named_list and (isinstance(change, list) or (order is not None and change is _GONE)):
        result: Any = _list(
            node, current if isinstance(current, list) else [], [] if change is _GONE else change, order
        )
    else:
        result = current if change is _GONE else _plain(change)
    unwanted = set(_scalars(patch.get(_DELETE + name) or [], _DELETE + name))
    if unwanted and isinstance(result, list):
        return [item for item in result if isinstance(item, dict | list) or item not in unwanted]
    return result


def _list(node: Node, current: list[Any], patch: Any, order: Any) -> list[Any]:
    """A list merged element by element, in the order that the patch asks for."""
    said = [item for item in patch if not (isinstance(item, dict) and item.get(_PATCH) == "replace")]
    before = {_step(node, item): item for item in current} if len(said) == len(patch) else {}
    result = dict(before)
    for item in said:
        step = _step(node, item)
        if not isinstance(item, dict):
            result[step] = item
        elif item.get(_PATCH) == "delete":
            result.pop(step, None)
        else:
            result[step] = patched(node.element or ANY, result.get(step, {}), item)
    set_here = [step for step in (_step(node, item) for item in said) if step in result]
    wanted = set_here if order is None else _order(node, order, set_here)
    mine = {step: result.pop(step) for step in dict.fromkeys(wanted) if step in result}
    merged = {**mine, **result}
    return [merged[step] for step in _interleaved(list(result), list(mine), list(before))]


def _order(node: Node, order: Any, set_here: Sequence[str]) -> list[str]:
    """The steps that `$setElementOrder` lists; those that the patch sets must be among them, in that order."""
    _require(isinstance(order, list), f"{_ORDER} must be a list")
    wanted = [_step(node, item) for item in order]
    remaining = iter(wanted)
    _require(all(step in remaining for step in set_here), f"the order in the patch does not match {_ORDER}")
    return wanted


def _interleaved(theirs: Sequence[str], mine: Sequence[str], live: Sequence[str]) -> list[str]:
    """Both, each in its order: one of `theirs`, which are all live, comes first only if it stood before the next of
    `mine`."""
    position = {step: index for index, step in enumerate(live)}
    result: list[str] = []
    start = 0
    for step in mine:
        while start < len(theirs) and position[theirs[start]] < position.get(step, -1):
            result.append(theirs[start])
            start += 1
        result.append(step)
    return [*result, *theirs[start:]]


def _step(node: Node, item: Any) -> str:
    step = element_step(node, item)
    _require(
        bool(step), f"an element of the list must be {'an object with ' if node.keys else ''}{node.keys or 'plain'}"
    )
    return step


def _scalars(value: Any, name: str) -> list[Any]:
    plain = isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)
    _require(plain, f"{name} must be a list of plain values")
    return list(value)


def _plain(value: Any) -> Any:
    """What replaces a value whole: without directives, and without nulls in objects."""
    if isinstance(value, dict):
        return patched(ANY, {}, value) if value.get(_PATCH) != "delete" else _GONE
    if isinstance(value, list):
        return [part for part in map(_plain, value) if part is not _GONE]
    return value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise bad_request(f"the strategic merge patch cannot be applied: {message}")
