"""From the model of a kind to its OpenAPI v3 schema, as kubectl reads it (`explain`, `apply`).

Structural, after "Specify a structural schema" of the Kubernetes documentation: every part is inlined, a nullable
field is a plain one that may be absent, free-form parts are marked `x-kubernetes-preserve-unknown-fields`. The
descriptions are the docstrings of the models' fields. Only what is in `COMPONENTS` is referred to, so that `explain`
shows its name as the type; whoever serves a schema serves these with it. Invariant: the result holds nothing that
OpenAPI 3.0 does not know (`anyOf` with null, `const`).

The structure of a kind is read from that: what is one value, what is taken apart, what names the elements of a list.
Whoever merges or compares objects part by part goes by it, and so does the rule that no two elements of a list have the
same name. It follows Kubernetes' `x-kubernetes-list-type`, `-list-map-keys` and `-map-type`: objects are taken apart
unless they say otherwise, lists are one value unless they are sets or maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from choregos.resources.kind import Kind
from choregos.resources.kinds.parts import PartSchema
from choregos.resources.rules.rule import VALIDATIONS

Schema = dict[str, Any]

QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"

COMPONENTS: Mapping[str, Schema] = MappingProxyType(
    {
        QUANTITY: {
            "description": "An amount: a number, or text such as `500m` (thousandths), `16k`, `4Gi` (1,024s) or `1e3`.",
            "oneOf": [{"type": "string"}, {"type": "number"}],
        },
        INT_OR_STRING: {
            "description": "A whole number, or text such as `25%`.",
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
        },
    }
)
"""To be put under `components.schemas` of a document that holds any schema from here."""

_COMPONENT_OF_FORMAT = {"quantity": QUANTITY, "int-or-string": INT_OR_STRING}
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_DROPPED = frozenset({"title", "$defs", "additionalProperties", "anyOf", "$ref", "const", "propertyNames"})


@lru_cache(maxsize=64)
def openapi_schema(kind: Kind, group: str, version: str) -> Schema:
    """The schema of a kind as served under one group and version. Shared by all callers; not to be changed.

    Args:
        group, version: canonical or an alias; they go into `x-kubernetes-group-version-kind`.
    """
    raw = kind.model.model_json_schema(by_alias=True, mode="validation", schema_generator=PartSchema)
    schema = _structural(raw, raw.get("$defs", {}))
    schema["x-kubernetes-group-version-kind"] = [{"group": group, "version": version, "kind": kind.kind}]
    # apiVersion and kind are in every object, but clients fill them in; a server that asked for them would be alone.
    schema["required"] = [name for name in schema.get("required", ()) if name not in {"apiVersion", "kind", "metadata"}]
    if not schema["required"]:
        del schema["required"]
    return schema


def _structural(node: Schema, definitions: dict[str, Schema]) -> Schema:
    if "$ref" in node:
        target = _structural(definitions[node["$ref"].rpartition("/")[2]], definitions)
        return _with_own(target, node)
    component = _COMPONENT_OF_FORMAT.get(node.get("format", ""))
    if component is not None:
        own = {key: value for key, value in _own(node).items() if key != "format"}
        return {"allOf": [{"$ref": f"#/components/schemas/{component}"}], **own}
    if "anyOf" in node:
        branches = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
        if len(branches) != 1:
            raise TypeError(f"a union of {len(branches)} types has no structural schema: {node}")
        return _with_own(_structural(branches[0], definitions), node)
    schema = _own(node)
    if "const" in node:
        schema["enum"] = [node["const"]]
        schema.setdefault("type", "string")
    if "properties" in node:
        schema["properties"] = {name: _structural(child, definitions) for name, child in node["properties"].items()}
    if "items" in node:
        schema["items"] = _structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        schema["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "type" not in schema and "enum" not in schema:
        schema[_PRESERVE] = True  # any JSON value
    return schema


def _with_own(target: Schema, node: Schema) -> Schema:
    """The schema of a type with what a field of it says. Of rules both hold; of descriptions the field's, which is
    nearer to the reader, unless the type's begins with it and says more."""
    own = _own(node)
    rules = [*target.get(VALIDATIONS, ()), *node.get(VALIDATIONS, ())]
    near, far = own.get("description", ""), target.get("description", "")
    if near and far.startswith(near.removesuffix(".")):
        own["description"] = far
    return target | own | ({VALIDATIONS: rules} if rules else {})


def _own(node: Schema) -> Schema:
    """What `node` says of itself, with its description on one line."""
    own = {
        key: value
        for key, value in node.items()
        if key not in _DROPPED and key not in {"properties", "items"} and not (key == "default" and value is None)
    }
    if "description" in own:
        own["description"] = " ".join(own["description"].split())
    return own


# Structure: how what the schema describes is taken apart


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One place of a structure.

    Attributes:
        form: `object`, `list`, `scalar`, or `any` for free-form JSON.
        atomic: an object that is one value.
        fields: of an object, by name.
        element: what stands under other keys of an object, and in a list; None if nothing may.
        keys: of a list that is a map, the fields whose values name an element, in alphabetical order.
        unique: a list that is a set: its elements are scalars and name themselves.
        names_within: whether elements of a list are named anywhere in it.
    """

    form: str
    atomic: bool = False
    fields: Mapping[str, Node] = field(default_factory=dict)
    element: Node | None = None
    keys: tuple[str, ...] = ()
    unique: bool = False
    names_within: bool = False

    @property
    def is_named_list(self) -> bool:
        return self.unique or bool(self.keys)

    def at(self, name: str) -> Node:
        """What stands under a key of an object."""
        return self.fields.get(name) or self.element or ANY


ANY = Node("any")


@lru_cache(maxsize=64)
def structure(kind: Kind) -> Node:
    return _node(openapi_schema(kind, kind.group, kind.version))


def _node(schema: Schema) -> Node:
    if schema.get("type") == "array":
        list_type = schema.get("x-kubernetes-list-type", "atomic")
        keys = tuple(sorted(schema.get("x-kubernetes-list-map-keys", ()))) if list_type == "map" else ()
        item = _node(schema.get("items", {}))
        unique = list_type == "set"
        return Node(
            "list", element=item, keys=keys, unique=unique, names_within=unique or bool(keys) or item.names_within
        )
    free = schema.get("x-kubernetes-preserve-unknown-fields") is True
    if free and "properties" not in schema:
        return ANY
    if schema.get("type") != "object":
        return Node("scalar")
    fields = {name: _node(child) for name, child in schema.get("properties", {}).items()}
    others = schema.get("additionalProperties")
    element = ANY if free else _node(others) if isinstance(others, dict) else None
    names_within = any(child.names_within for child in (*fields.values(), element) if child is not None)
    atomic = schema.get("x-kubernetes-map-type") == "atomic"
    return Node("object", atomic=atomic, fields=fields, element=element, names_within=names_within)


def has_value(node: Node, path: str) -> bool:
    """Whether one value may stand at a dotted path. Below free-form parts everything may."""
    place: Node | None = node
    for name in path.split("."):
        if place is None or place.form == "any":
            break
        place = (place.fields.get(name) or place.element) if place.form == "object" else None
    return place is not None and place.form in ("scalar", "any")


def element_name(node: Node, item: Any) -> tuple[Any, ...] | None:
    """What names an element of a named list: its value, or those of its keys; None if it does not say."""
    if node.unique:
        return None if item is None or isinstance(item, dict | list) else (item,)
    if not isinstance(item, dict):
        return None
    names = tuple(item.get(key) for key in node.keys)
    return None if any(part is None or isinstance(part, dict | list) for part in names) else names
