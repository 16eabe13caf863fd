"""Schemas are structural, as those of a CustomResourceDefinition must be, and have the defaults that are filled in."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from choregos.resources.kind import Kind
from choregos.resources.registry import KINDS
from choregos.resources.schema import COMPONENTS, openapi_schema
from choregos.resources.validation import validate

PRESERVE = "x-kubernetes-preserve-unknown-fields"
EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
SCALARS = ("string", "integer", "number", "boolean")
JUNCTORS = ("allOf", "anyOf", "oneOf", "not")


def schema_of(kind: Kind) -> dict[str, Any]:
    return openapi_schema(kind, kind.group, kind.version)


def component(schema: dict[str, Any]) -> bool:
    """Whether it is one of the types that have a name, which Kubernetes' own kinds refer to in this way too."""
    references = [each.get("$ref", "").removeprefix("#/components/schemas/") for each in schema.get("allOf", ())]
    return len(references) == 1 and references[0] in COMPONENTS


def offences(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """What "Specifying a structural schema" and the checks of list types and defaults forbid."""
    typed = schema.get("type")
    if component(schema):
        if typed is not None:
            yield f"{path}: a type beside a reference"
    elif typed is None:
        if not schema.get(PRESERVE):
            yield f"{path}: no type"
    elif typed not in (*SCALARS, "object", "array"):
        yield f"{path}: type {typed}"
    elif any(name in schema for name in JUNCTORS):
        yield f"{path}: a junctor"
    if "properties" in schema and "additionalProperties" in schema:
        yield f"{path}: properties and additionalProperties"
    if "properties" in schema and typed != "object":
        yield f"{path}: properties of a {typed}"
    if schema.get("uniqueItems"):
        yield f"{path}: uniqueItems"
    if (typed == "array") is not ("items" in schema):
        yield f"{path}: a list and its items"
    for name in schema.get("required", ()):
        if name not in schema.get("properties", {}):
            yield f"{path}: requires {name}, which it does not have"
        elif "default" in schema["properties"][name]:
            yield f"{path}.{name}: required and defaulted"
    yield from list_offences(schema, path)
    for name, child in schema.get("properties", {}).items():
        yield from offences(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from offences(schema[key], f"{path}[]")


def list_offences(schema: dict[str, Any], path: str) -> Iterator[str]:
    list_type = schema.get("x-kubernetes-list-type")
    if list_type is not None and schema.get("type") != "array":
        yield f"{path}: a list type of no list"
    if schema.get("x-kubernetes-map-type") is not None and schema.get("type") != "object":
        yield f"{path}: a map type of no object"
    items = schema.get("items", {})
    if list_type == "set" and items.get("type") not in SCALARS and items.get("x-kubernetes-map-type") != "atomic":
        yield f"{path}: a set of what can be taken apart"
    keys = schema.get("x-kubernetes-list-map-keys")
    if (list_type == "map") is not bool(keys):
        yield f"{path}: keys of a list that is no map, or a map without"
    for key in keys or ():
        field = items.get("properties", {}).get(key, {})
        if field.get("type") not in SCALARS:
            yield f"{path}: the key {key} is no scalar"
        if key not in items.get("required", ()) and "default" not in field:
            yield f"{path}: the key {key} is neither required nor defaulted"


@EACH_KIND
def test_a_schema_is_structural(kind: Kind) -> None:
    assert list(offences(schema_of(kind))) == []


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "text"},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
        {"type": "string", "anyOf": [{"type": "string"}]},
        {"type": "array"},
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"},
        {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"},
        {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        {"type": "object", "required": ["a"]},
    ],
)
def test_what_is_not_structural_is_found(schema: dict[str, Any]) -> None:
    assert list(offences(schema))


# Defaults

SAMPLES = ("a", "m:C", "True", "x/y", "ClusterRole", "rbac.authorization.k8s.io", "2026-01-01T00:00:00Z", "")


def sample(schema: dict[str, Any]) -> Any:
    """A small value that a schema describes: of objects what is required."""
    if "enum" in schema:
        return schema["enum"][0]
    if component(schema):
        return "1"
    match schema.get("type"):
        case "object":
            return {name: sample(schema["properties"][name]) for name in schema.get("required", ())}
        case "array":
            return [sample(schema["items"])] * schema.get("minItems", 0)
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return True
        case "string":
            if schema.get("format") == "date-time":
                return "2026-01-01T00:00:00Z"
            return next(each for each in SAMPLES if re.search(schema.get("pattern", ""), each))
    return {}


PARTICULARS: dict[str, dict[str, Any]] = {
    "AgentCluster": {"spec": {"agents": []}},
    "AgentCall": {"spec": {"capability": "a"}},
    "ClusterRoleBinding": {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "a"}},
    "RoleBinding": {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "a"}},
    "SelfSubjectAccessReview": {"spec": {"resourceAttributes": {}}},
    "SubjectAccessReview": {"spec": {"user": "a", "resourceAttributes": {}}},
    "LocalSubjectAccessReview": {"spec": {"user": "a", "resourceAttributes": {}}},
}
"""What the rules of a kind demand beyond its required fields."""


def smallest(kind: Kind) -> dict[str, Any]:
    body = sample(schema_of(kind)) | PARTICULARS.get(kind.kind, {})
    return {"apiVersion": kind.api_version, "kind": kind.kind, **body, "metadata": {"name": "x"}}


def with_optional_parts(schema: dict[str, Any], value: Any) -> Any:
    """`value` with each optional part of it, as small as it can be, so that the defaults within are filled in."""
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    parts = {
        name: with_optional_parts(child, value.get(name, sample(child)))
        for name, child in schema["properties"].items()
        if name in value or (child.get("type") == "object" and "properties" in child)
    }
    return value | parts


def defaulted(schema: dict[str, Any], value: Any) -> Any:
    """`value` with defaults as Kubernetes fills them in: from the top, where nothing stands; a null is nothing."""
    if isinstance(value, dict):
        found = {name: part for name, part in value.items() if part is not None}
        for name, child in schema.get("properties", {}).items():
            if name not in found and "default" in child:
                found[name] = copy.deepcopy(child["default"])
        inside = schema.get("additionalProperties")
        children = {name: schema.get("properties", {}).get(name, inside) for name in found}
        return {
            name: defaulted(children[name], part) if isinstance(children[name], dict) else part
            for name, part in found.items()
        }
    if isinstance(value, list):
        return [defaulted(schema["items"], item) for item in value]
    return value


@EACH_KIND
def test_the_defaults_of_a_schema_are_those_that_validation_fills_in(kind: Kind) -> None:
    schema = schema_of(kind)
    document = smallest(kind)
    assert validate(kind, document).object == defaulted(schema, document)


FULL = [kind for kind in KINDS if kind.kind in {"AgentSet", "AgentNode", "Namespace", "Event", "Pod", "Agent"}]


@pytest.mark.parametrize("kind", FULL, ids=lambda kind: kind.kind)
def test_the_defaults_within_optional_parts_are_those_that_validation_fills_in(kind: Kind) -> None:
    schema = schema_of(kind)
    document = with_optional_parts(schema, smallest(kind))
    del document["metadata"]
    document["metadata"] = {"name": "x"}
    assert validate(kind, document).object == defaulted(schema, document)
