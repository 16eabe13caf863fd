"""Sets of fields of an object, in the form that `managedFields` gives them (`FieldsV1`).

A set is a tree of dicts. A key is one step: `f:name` into an object, `k:{"name":"a"}` to the list element with these
keys, `v:"a"` to the element with this value, `i:0` to a position. A node without children is a member of the set; one
with children is a member only if they include `.`. So the sets are ready to be written as they are, and equal sets are
equal dicts. The root itself is never a member: `{}` is the empty set.

Invariant: no function changes a set it was given; results share parts with their arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

FieldSet = Mapping[str, Any]
Path = tuple[str, ...]

SELF = "."
EMPTY: FieldSet = {}
_MEMBER: FieldSet = {SELF: EMPTY}
DEPTH_MAX = 128
_JSON = msgspec.json


def value(scalar: Any) -> str:
    return f"v:{_JSON.encode(scalar).decode()}"


def key(keys: Mapping[str, Any]) -> str:
    """Args: keys: by name, in alphabetical order."""
    return f"k:{_JSON.encode(keys).decode()}"


def of(*paths: Path) -> FieldSet:
    """The set of these paths."""
    result = EMPTY
    for path in paths:
        node = EMPTY
        for step in reversed(path):
            node = {step: node}
        result = union(result, node)
    return result


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    if not left or not right:
        return left or right
    result = dict(left)
    for step, node in right.items():
        mine = result.get(step)
        if mine is None:
            result[step] = node
        elif mine != node:
            result[step] = union(mine or _MEMBER, node or _MEMBER)
    return result


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """The members of `left` that are no members of `right`; what is below or above a member of `right` stays."""
    result = {}
    for step, node in left.items():
        other = right.get(step)
        if other is None:
            result[step] = node
        elif node != other:
            rest = _node(difference(node or _MEMBER, other or _MEMBER))
            if rest is not None:
                result[step] = rest
    return result


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    result = {}
    for step, node in left.items():
        other = right.get(step)
        if other is not None:
            common = node if step == SELF else _node(intersection(node or _MEMBER, other or _MEMBER))
            if common is not None:
                result[step] = common
    return result


def is_member(node: FieldSet) -> bool:
    """Whether the field at which this node of a set stands is in the set."""
    return not node or SELF in node


def paths(fields: FieldSet, above: Path = ()) -> Iterator[Path]:
    """Every member, those of one level before those below it, in alphabetical order."""
    below = sorted(step for step in fields if step != SELF)
    for step in below:
        if is_member(fields[step]):
            yield (*above, step)
    for step in below:
        yield from paths(fields[step], (*above, step))


def text(path: Path) -> str:
    """`.spec.agents[name="chat"].replicas`: a path as conflicts name it."""
    return "".join(map(_step_text, path))


def _step_text(step: str) -> str:
    kind, rest = step[0], step[2:]
    if kind == "f":
        return f".{rest}"
    if kind == "v":
        return f"[={rest}]"
    if kind == "k":
        keys = _JSON.decode(rest)
        return f"[{','.join(f'{name}={_JSON.encode(part).decode()}' for name, part in keys.items())}]"
    return f"[{rest}]"


def _node(fields: FieldSet) -> FieldSet | None:
    """The node with these members, itself (`.`) perhaps among them, in its normal form; None if there are none."""
    if not fields:
        return None
    return EMPTY if len(fields) == 1 and SELF in fields else fields


def read(written: Any) -> FieldSet:
    """A set as a client has written it, in the normal form. Steps of unknown kinds are left out, as in Kubernetes.

    Raises:
        ValueError: it is no set.
    """
    fields = _read([written], 0)
    return {step: node for step, node in fields.items() if step != SELF}


def _read(written: Sequence[Any], depth: int) -> FieldSet:
    """The node that all of `written` are together: a step can be spelt in many ways. Takes time by their size."""
    steps: dict[str, list[Any]] = {}
    for each in written:
        node = EMPTY if each is None else each
        if not isinstance(node, dict) or depth > DEPTH_MAX:
            raise ValueError("fieldsV1 must be objects within objects, not too deep")
        known = False
        for step, below in node.items():
            if name := _step(step):
                known = True
                steps.setdefault(name, []).append(below)
        if not known:
            steps[SELF] = []
    return _node({step: EMPTY if step == SELF else _read(nodes, depth + 1) for step, nodes in steps.items()}) or EMPTY


def _step(step: str) -> str:
    """A step in its normal form; empty if it is of no known kind. Raises: ValueError."""
    if step == SELF:
        return SELF
    kind, separator, rest = step[:1], step[1:2], step[2:]
    if separator != ":":
        raise ValueError(f"{step!r} is no step of a path")
    if kind == "f":
        return step
    if kind == "i":
        return f"i:{int(rest)}"
    if kind not in ("k", "v"):
        return ""
    try:
        decoded = _JSON.decode(rest)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"{step!r} holds no JSON") from error
    if kind == "v":
        return value(decoded)
    if not isinstance(decoded, dict):
        raise ValueError(f"{step!r} holds no object")  # noqa: TRY004 # a value's fault
    return key(dict(sorted(decoded.items())))
