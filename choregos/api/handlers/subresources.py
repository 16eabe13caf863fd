"""`/scale`: the number of replicas of a kind that has one, as an `autoscaling/v1 Scale`.

(`/status` is written by `writing`, which leaves everything else alone.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from choregos.api.apply.edits import Apply
from choregos.api.handlers.writing import read_patch, replace, write
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import codec
from choregos.api.rules.options import check_patch, write_options
from choregos.api.rules.status import bad_request
from choregos.resources.kind import Object, ReadOnlyObject, ScalePaths, value_at


async def get_scale(call: ApiRequest) -> Response:
    source = call.reading()
    return answer(_scale(source.document(source.get(call.target.namespace, call.name)), _paths(call)))


async def update_scale(call: ApiRequest) -> Response:
    body = await call.document()
    return await _write(call, lambda _: body)


async def patch_scale(call: ApiRequest) -> Response:
    if codec.media_type_of(call.content_type) != codec.APPLY_PATCH:
        return await _write(call, await read_patch(call))
    options = write_options(call.query)
    check_patch(options, applies=True)
    config = await call.document()
    edit = await call.decider.decide(
        lambda: Apply(call.author(options), _applied(call, config), force=options.force is True)
    )
    document, _ = await write(call, options, edit)
    return answer(_scale(document, _paths(call)))


def _applied(call: ApiRequest, scale: Object) -> Object:
    """The configuration of the object that applying a Scale to it means."""
    if (scale.get("apiVersion"), scale.get("kind")) != ("autoscaling/v1", "Scale"):
        raise bad_request(f"invalid object type: {scale.get('apiVersion')}, Kind={scale.get('kind')}")
    replicas, seen = _read(scale)
    config: Object = {"apiVersion": call.api_version, "kind": call.kind.kind, "metadata": seen}
    named = "replicas" in (scale.get("spec") or {})
    return _with(config, _paths(call).spec_replicas.split("."), replicas) if named else config


async def _write(call: ApiRequest, change: Callable[[Any], Any]) -> Response:
    paths = _paths(call)

    def scaled(document: Object) -> Object:
        replicas, seen = _read(change(_scale(document, paths)))
        return _with(document, paths.spec_replicas.split("."), replicas) | {
            "metadata": {**document["metadata"], **seen}
        }

    document, _ = await replace(call, write_options(call.query), scaled)
    return answer(_scale(document, paths))


def _read(scale: Any) -> tuple[int, Object]:
    """The replicas that are asked for, and what the client says it has seen of the object.

    Raises:
        Refusal: 400, it is no Scale.
    """
    parts = (scale.get("spec") or {}, scale.get("metadata") or {}) if isinstance(scale, dict) else ()
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise bad_request("a Scale must be an object, and its spec and metadata too")
    spec, metadata = parts
    replicas = spec.get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request("spec.replicas of a Scale must be a whole number")
    return replicas, {name: metadata[name] for name in ("resourceVersion", "uid") if name in metadata}


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
        "spec": {"replicas": value_at(document, paths.spec_replicas) or 0},
        "status": {
            "replicas": value_at(document, paths.status_replicas) or 0,
            "selector": value_at(document, paths.selector) or "",
        },
    }


def _with(document: Object, path: list[str], value: Any) -> Object:
    head, *rest = path
    return {**document, head: _with(document.get(head) or {}, rest, value) if rest else value}
