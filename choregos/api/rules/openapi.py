"""OpenAPI documents of what is served: v3 by group and version, and the empty v2 that old clients ask for. Pure.

kubectl reads them for `explain`, to learn that a path takes `fieldValidation`, and to see for which kinds it may make a
strategic merge patch itself. So a document has a schema for each kind and those operations on which clients look things
up. Strategic merge patches are served and not announced: kubectl cannot make one of what is free-form or has any key.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from choregos.api.rules.codec import APPLY_PATCH, JSON, JSON_PATCH, MERGE_PATCH, YAML
from choregos.api.rules.discovery import group_versions
from choregos.resources.kind import Kind
from choregos.resources.registry import SERVED, names_at
from choregos.resources.schema import COMPONENTS, openapi_schema

Document = dict[str, Any]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_STATUS, _LIST_META = f"{_META}.Status", f"{_META}.ListMeta"
_TEXT, _WHOLE, _TRUTH = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}

_SHARED: Document = {
    **COMPONENTS,
    _LIST_META: {
        "description": "What is said of a list.",
        "type": "object",
        "properties": {
            "resourceVersion": {"description": "Version of the store that the list shows.", **_TEXT},
            "continue": {"description": "Token for the next part; absent when this is the last.", **_TEXT},
            "remainingItemCount": {"description": "How many are in the parts that follow.", **_WHOLE},
        },
    },
    _STATUS: {
        "description": "How a request has ended that answers with no object.",
        "type": "object",
        "properties": {
            "apiVersion": {"description": "`v1`.", **_TEXT},
            "kind": {"description": "`Status`.", **_TEXT},
            "metadata": {"description": "Of the list that was asked for.", "type": "object"},
            "status": {"description": "`Success` or `Failure`.", **_TEXT},
            "message": {"description": "Why, for people.", **_TEXT},
            "reason": {"description": "Why, as one word for programs.", **_TEXT},
            "code": {"description": "The HTTP status.", **_WHOLE},
            "details": {
                "description": "What it was about, and in `causes` each field that is at fault.",
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
            },
        },
        "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Status"}],
    },
}

_LISTING = {
    "labelSelector": _TEXT,
    "fieldSelector": _TEXT,
    "limit": _WHOLE,
    "continue": _TEXT,
    "resourceVersion": _TEXT,
    "resourceVersionMatch": _TEXT,
    "watch": _TRUTH,
    "allowWatchBookmarks": _TRUTH,
    "sendInitialEvents": _TRUTH,
    "timeoutSeconds": _WHOLE,
}
_WRITING = {name: {**_TEXT, "uniqueItems": True} for name in ("dryRun", "fieldManager", "fieldValidation")}
_DELETING = {"dryRun": _TEXT, "gracePeriodSeconds": _WHOLE, "propagationPolicy": _TEXT}
_PARAMETERS: dict[str, Document] = {
    "list": _LISTING,
    "create": _WRITING,
    "update": _WRITING,
    "patch": {**_WRITING, "force": _TRUTH},
    "delete": _DELETING,
    "deletecollection": {"labelSelector": _TEXT, "fieldSelector": _TEXT, **_DELETING},
}
"""Options in the query, by verb."""

V2_EMPTY: Document = {
    "swagger": "2.0",
    "info": {"title": "choregos", "version": "v1"},
    "paths": {},
    "definitions": {},
}
V2_EMPTY_GNOSTIC = b"\n\x032.0\x12\x0e\n\x08choregos\x12\x02v1"
"""The same as gnostic's protobuf: field 1 `swagger`, field 2 `info` with title and version."""


def group_path(group: str, version: str) -> str:
    """`apis/choregos.dev/v1`; `api/v1` for the core group."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def documents(product_version: str) -> dict[str, bytes]:
    """The encoded document of each group and version, by `group_path`."""
    return {
        group_path(group, version): msgspec.json.encode(_document(group, version, product_version))
        for group, version in group_versions()
    }


def index(encoded: dict[str, bytes]) -> Document:
    """The document of `/openapi/v3`: where each document is, with a hash so that clients can keep it."""
    paths = {
        path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={hashlib.sha256(document).hexdigest()[:32].upper()}"}
        for path, document in encoded.items()
    }
    return {"paths": paths}


def _document(group: str, version: str, product_version: str) -> Document:
    schemas: Document = dict(_SHARED)
    paths: Document = {}
    for kind in SERVED[group, version]:
        name = _schema_name(group, version, kind)
        schemas[name] = openapi_schema(kind, group, version)
        if "list" in kind.verbs:
            schemas[f"{name}List"] = _list_schema(kind, group, version, name)
        paths |= _paths(kind, group, version, name)
    return {
        "openapi": "3.0.0",
        "info": {"title": "choregos", "version": product_version},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _schema_name(group: str, version: str, kind: Kind) -> str:
    """`dev.choregos.v1.AgentCluster`, as Kubernetes names those of custom resources."""
    prefix = ".".join(reversed(group.split("."))) if group else "io.k8s.api.core"
    return f"{prefix}.{version}.{kind.kind}"


def _list_schema(kind: Kind, group: str, version: str, name: str) -> Document:
    return {
        "description": f"Several objects of kind {kind.kind}.",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": "API group and version of this list's schema.", **_TEXT},
            "kind": {"description": "Kind of this list.", **_TEXT},
            "metadata": {"description": "Of the list.", "allOf": [_reference(_LIST_META)]},
            "items": {"description": "The objects.", "type": "array", "items": _reference(name)},
        },
        "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": f"{kind.kind}List"}],
    }


def _reference(schema: str) -> Document:
    return {"$ref": f"#/components/schemas/{schema}"}


def _paths(kind: Kind, group: str, version: str, schema: str) -> Document:
    base = f"/{group_path(group, version)}"
    if kind.namespaced:
        base += "/namespaces/{namespace}"
    collection = f"{base}/{names_at(kind, group, version)[0]}"
    single = f"{collection}/{{name}}"
    operations = {
        collection: (("get", "list"), ("post", "create"), ("delete", "deletecollection")),
        single: (("get", "get"), ("put", "update"), ("patch", "patch"), ("delete", "delete")),
    }
    paths: Document = {}
    for path, methods in operations.items():
        served = {
            method: _operation(kind, (group, version), method, verb, schema)
            for method, verb in methods
            if verb in kind.verbs
        }
        if served:
            paths[path] = {**served, "parameters": _path_parameters(path)}
    return paths


def _path_parameters(path: str) -> list[Document]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("namespace", "name")
        if f"{{{name}}}" in path
    ]


def _operation(kind: Kind, served: tuple[str, str], method: str, verb: str, schema: str) -> Document:
    group, version = served
    body = _reference(schema)
    answered = {
        "list": _reference(f"{schema}List"),
        "deletecollection": _reference(f"{schema}List"),
        # Elsewhere the object too, if something holds it yet.
        "delete": body if kind.returns_deleted else {"anyOf": [_reference(_STATUS), body]},
    }.get(verb, body)
    succeeded = {"201": _answer("Created", answered)} if method == "post" else {"200": _answer("OK", answered)}
    if verb == "patch":
        succeeded["201"] = _answer("Created, by an application", answered)
    operation: Document = {
        "tags": [f"{group or 'core'}_{version}"],
        "operationId": f"{verb}{group.replace('.', ' ').title().replace(' ', '')}{version.upper()}{kind.kind}",
        "parameters": [
            {"name": name, "in": "query", "schema": form} for name, form in _PARAMETERS.get(verb, {}).items()
        ],
        "responses": {**succeeded, "default": _answer("Refused, and why", _reference(_STATUS))},
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind.kind},
    }
    if method in ("post", "put"):
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": body}, YAML: {"schema": body}}}
    if method == "patch":
        operation["requestBody"] = {
            "required": True,
            "content": {
                media_type: {"schema": {"type": "object"}} for media_type in (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
            },
        }
    return operation


def _answer(description: str, schema: Document) -> Document:
    return {"description": description, "content": {JSON: {"schema": schema}}}
