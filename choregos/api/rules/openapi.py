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
from choregos.resources.schema import openapi_schema

Document = dict[str, Any]

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
    schemas: Document = {}
    paths: Document = {}
    for kind in SERVED[group, version]:
        name = _schema_name(group, version, kind)
        schemas[name] = openapi_schema(kind, group, version)
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
    content = {JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    operation: Document = {
        "tags": [f"{group or 'core'}_{version}"],
        "operationId": f"{verb}{group.replace('.', ' ').title().replace(' ', '')}{version.upper()}{kind.kind}",
        "responses": {"201" if method == "post" else "200": {"description": "OK", "content": content}},
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind.kind},
    }
    if method in ("post", "put", "patch"):
        operation["parameters"] = [_query("dryRun"), _query("fieldManager"), _query("fieldValidation")]
        operation["requestBody"] = {"required": True, "content": content | {YAML: content[JSON]}}
    if method == "patch":
        operation["requestBody"] = {
            "required": True,
            "content": {
                media_type: {"schema": {"type": "object"}} for media_type in (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
            },
        }
        operation["parameters"].append(_query("force"))
    return operation


def _query(name: str) -> Document:
    return {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
