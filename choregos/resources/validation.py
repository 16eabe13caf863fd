"""Is this object right? All faults at once, each with its path; and the object in its normal form.

Owns the way from input to `Validated`: types and defaults by the kind's model, cross-field faults by its rules (in CEL,
else in Python), then what holds for every kind (names, scope, immutable fields). Invariant: a validated object
validates to itself.

It does not decide what to do about unknown fields: they are reported and left out, and the API server is strict,
warns or says nothing, as the client asked.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from choregos.foundation.errors import FieldError, Invalid
from choregos.resources.kind import Kind, Object, ReadOnlyObject, value_at
from choregos.resources.rules.evaluation import Location, broken_rules
from choregos.resources.schema import Node, element_name, structure

_NOT_OURS = "managedFields"
"""Of the metadata: the API server's, which reads and writes it, stores it as one text, and lets no client do so."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_LENGTH_MAX = 80
_FIELD_ERRORS_MAX = 1000
"""Beyond so many faults the rest is counted, and the count is one more fault, so that every client shows it."""


@dataclass(frozen=True, slots=True)
class Validated:
    """
    Attributes:
        object: defaults filled (in an AgentCluster not inside of lists), quantities canonical, unknown fields and nulls
            left out. Shares nothing with the input but `metadata.managedFields`, into which nobody looks here.
        warnings: for the person, in the manifest's terms.
        unknown_fields: paths of what the kind does not know.
    """

    object: Object
    warnings: tuple[str, ...]
    unknown_fields: tuple[str, ...]


def validate(kind: Kind, obj: ReadOnlyObject, *, previous: ReadOnlyObject | None = None) -> Validated:
    """Checks and completes an object.

    Args:
        obj: as decoded from JSON or YAML; not changed. apiVersion and kind may be missing.
        previous: the stored object, on an update; immutable fields are compared with it.

    Raises:
        Invalid: with every fault.
    """
    if not isinstance(obj, dict):
        raise Invalid(f"a {kind.kind} must be an object, found {_shown(obj)}")
    candidate = {**obj, "apiVersion": kind.api_version, "kind": kind.kind}
    faults = [*_type_faults(kind, obj), *_metadata_faults(kind, obj), *_repetitions(structure(kind), obj, ())]
    dump, unknown, model_faults = _through_model(kind, candidate)
    faults.extend(map(_fault, model_faults))
    faulty: set[Location] = {entry["loc"] for entry in model_faults}
    judged = candidate if dump is None else dump
    for broken in broken_rules(kind, judged, previous=None if dump is None else previous, faulty=faulty):
        faults.append(FieldError(dotted(broken.location), broken.message, broken.reason))
    if kind.rules is not None:
        faults.extend(kind.rules(candidate))
    if previous is not None and dump is not None:
        faults.extend(_immutable_faults(kind, previous, dump))
        if kind.changes is not None:
            faults.extend(kind.changes(previous, dump))
    if faults or dump is None:
        # First, because a field that is missing is often there, misspelt.
        raise _invalid(kind, obj, [*(FieldError(path, "unknown field") for path in unknown), *faults])
    warnings = tuple(kind.advice(dump)) if kind.advice is not None else ()
    return Validated(dump, warnings, tuple(unknown))


def _through_model(kind: Kind, candidate: Object) -> tuple[Object | None, list[str], list[Any]]:
    """(normal form or None, unknown fields, pydantic's errors)."""
    try:
        return _dump(kind, candidate), [], []
    except ValidationError as error:
        first = error
    details = first.errors(include_url=False, include_context=True)
    unknown = [entry["loc"] for entry in details if entry["type"] == "extra_forbidden"]
    faults = [entry for entry in details if entry["type"] != "extra_forbidden"]
    paths = [dotted(location) for location in unknown]
    if faults:
        return None, paths, faults
    pruned = copy.deepcopy(candidate)
    for location in unknown:
        _remove(pruned, location)
    return _dump(kind, pruned), paths, []


def _dump(kind: Kind, candidate: Object) -> Object:
    metadata = candidate.get("metadata")
    kept = metadata.get(_NOT_OURS) if isinstance(metadata, dict) else None
    if isinstance(metadata, dict) and kept is not None:
        candidate = {**candidate, "metadata": {name: part for name, part in metadata.items() if name != _NOT_OURS}}
    dump = kind.model.model_validate(candidate).model_dump(by_alias=True, exclude_none=True)
    if kept is not None:
        dump["metadata"][_NOT_OURS] = kept
    return dump


def _remove(obj: Any, location: Sequence[int | str]) -> None:
    for key in location[:-1]:
        obj = obj[key]
    del obj[location[-1]]


def _type_faults(kind: Kind, obj: ReadOnlyObject) -> Iterator[FieldError]:
    served = {(f"{group}/{version}" if group else version) for group, version in kind.aliases} | {kind.api_version}
    found = obj.get("apiVersion")
    if found is not None and found not in served:
        expected = " or ".join(sorted(served))
        yield FieldError("apiVersion", f"expected {expected}, found {_shown(found)}", "FieldValueNotSupported")
    if obj.get("kind") not in {None, kind.kind}:
        yield FieldError("kind", f"expected {kind.kind}, found {_shown(obj['kind'])}", "FieldValueNotSupported")


def _metadata_faults(kind: Kind, obj: ReadOnlyObject) -> Iterator[FieldError]:
    metadata = obj.get("metadata")
    if kind.plane == "virtual" or not isinstance(metadata, dict):
        return
    if not metadata.get("name") and not metadata.get("generateName"):
        yield FieldError("metadata.name", "is required", "FieldValueRequired")
    if not kind.namespaced and metadata.get("namespace"):
        yield FieldError("metadata.namespace", f"a {kind.kind} has no namespace", "FieldValueForbidden")


def _repetitions(node: Node, value: Any, place: tuple[int | str, ...]) -> Iterator[FieldError]:
    """Elements of lists that are named as one before them."""
    if not node.names_within:
        return
    if isinstance(value, dict) and node.form == "object":
        for name, part in value.items():
            yield from _repetitions(node.at(name), part, (*place, name))
    elif isinstance(value, list) and node.element is not None:
        seen = set()
        for index, item in enumerate(value):
            name = element_name(node, item)
            if name is not None and name in seen:
                shown = " with ".join(map(_shown, name))
                yield FieldError(dotted((*place, index, *node.keys)), f"{shown} is listed twice", "FieldValueDuplicate")
            seen.add(name)
            yield from _repetitions(node.element, item, (*place, index))


def _immutable_faults(kind: Kind, previous: ReadOnlyObject, obj: ReadOnlyObject) -> Iterator[FieldError]:
    for path in kind.immutable:
        before, after = value_at(previous, path), value_at(obj, path)
        if before != after:
            plain = not isinstance(before, dict) and not isinstance(after, dict)
            message = f"cannot be changed from {_shown(before)} to {_shown(after)}" if plain else "is immutable"
            yield FieldError(path, message, "FieldValueForbidden")


def _invalid(kind: Kind, obj: ReadOnlyObject, faults: Sequence[FieldError]) -> Invalid:
    distinct = tuple(dict.fromkeys(faults))
    metadata = obj.get("metadata")
    name = (metadata.get("name") or metadata.get("generateName") or "") if isinstance(metadata, dict) else ""
    if len(distinct) > _FIELD_ERRORS_MAX:
        more = FieldError("…", f"and {len(distinct) - _FIELD_ERRORS_MAX} more faults")
        distinct = (*distinct[:_FIELD_ERRORS_MAX], more)
    return Invalid(f"{kind.kind} {_shown(name)} is invalid" if name else f"{kind.kind} is invalid", distinct)


def dotted(location: Sequence[int | str]) -> str:
    """`spec.agents[2].labels[example.org/tier]`: a place, as Kubernetes writes it."""
    path = ""
    for key in location:
        if isinstance(key, int):
            path += f"[{key}]"
        elif key == "[key]":
            continue  # pydantic's mark that the key itself is at fault; it names it just before
        elif _PLAIN_KEY.fullmatch(key):
            path += f".{key}" if path else key
        else:
            path += f"[{key}]"
    return path


_EXPECTED = {
    "string_type": "text; quote it",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "invalid_key": "text as a key; quote it",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def _fault(entry: Any) -> FieldError:
    """One of pydantic's errors, in the manifest's terms."""
    path, found, kind = dotted(entry["loc"]), entry["input"], entry["type"]
    context = entry.get("ctx", {})
    if kind == "missing":
        return FieldError(path, "is required", "FieldValueRequired")
    if kind == "literal_error":
        return FieldError(path, f"expected {context['expected']}, found {_shown(found)}", "FieldValueNotSupported")
    if kind == "value_error":
        return FieldError(path, str(context["error"]))
    if kind in _EXPECTED:
        return FieldError(path, f"expected {_EXPECTED[kind]}, found {_shown(found)}")
    message = entry["msg"].removeprefix("Input should be ").removeprefix("String should ")
    return FieldError(path, f"should be {message}, found {_shown(found)}".replace("should be match", "should match"))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    text = text or repr(value)
    return text if len(text) <= _SHOWN_LENGTH_MAX else f"{text[:_SHOWN_LENGTH_MAX]}…"
