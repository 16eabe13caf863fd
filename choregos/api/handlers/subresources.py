"""`/scale`: the number of replicas of a kind that has one, as an `autoscaling/v1 Scale`.

(`/status` is written by `writing`, which leaves everything else alone.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from choregos.api.handlers.writing import read_patch, replace
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules.options import write_options
from choregos.api.rules.status import bad_request
from choregos.resources.kind import Object, ReadOnlyObject, ScalePaths


async def get_scale(call: ApiRequest) -> Response:
    source = call.reading()
    return answer(_scale(source.document(source.get(call.target.namespace, call.name)), _paths(call)))


async def update_scale(call: ApiRequest) -> Response:
    body = await call.document()
    return await _write(call, lambda _: body)


async def patch_scale(call: ApiRequest) -> Response:
    return await _write(call, await read_patch(call))


async def _write(call: ApiRequest, change: Callable[[Any], Any]) -> Response:
    paths = _paths(call)

    def scaled(document: Object) -> Object:
        wanted = change(_scale(document, paths))
        replicas = wanted.get("spec", {}).get("replicas", 0) if isinstance(wanted, dict) else None
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise bad_request("spec.replicas of a Scale must be a whole number")
        metadata = document["metadata"]
        # What the client says it has seen must be what is there.
        named = {
            name: value for name, value in wanted.get("metadata", {}).items() if name in ("resourceVersion", "uid")
        }
        return _with(document, paths.spec_replicas.split("."), replicas) | {"metadata": {**metadata, **named}}

    document, _ = await replace(call, write_options(call.query), scaled)
    return answer(_scale(document, paths))


def _paths(call: ApiRequest) -> ScalePaths:
    assert call.kind.scale is not None, f"{call.kind.kind} has no scale"
    return call.kind.scale


def _scale(document: ReadOnlyObject, paths: ScalePaths) -> Object:
    metadata = document["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": _at(document, paths.spec_replicas) or 0},
        "status": {
            "replicas": _at(document, paths.status_replicas) or 0,
            "selector": _at(document, paths.selector) or "",
        },
    }


def _at(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _with(document: Object, path: list[str], value: Any) -> Object:
    head, *rest = path
    return {**document, head: _with(document.get(head) or {}, rest, value) if rest else value}
