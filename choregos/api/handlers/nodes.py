"""PUT and PATCH of a Node: a write of the AgentNode it shows, which is what `kubectl cordon`, `taint` and `label` do.

Invariant: the patch is applied to the Node, as the client sees it, and the result is validated as an AgentNode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from choregos.api.handlers import writing
from choregos.api.projections.nodes import node, written
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import codec, patch
from choregos.api.rules.options import write_options
from choregos.api.rules.status import bad_request
from choregos.resources.kinds.agentnode import AGENTNODE

STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"


async def update(call: ApiRequest) -> Response:
    body = await call.document()
    return await _write(call, lambda _: body)


async def patch_(call: ApiRequest) -> Response:
    return await _write(call, await _read_patch(call))


async def _read_patch(call: ApiRequest) -> Callable[[Any], Any]:
    if codec.media_type_of(call.content_type) != STRATEGIC_MERGE_PATCH:
        return await writing.read_patch(call)
    described = codec.decode_object(await call.body(), codec.JSON)
    if directive := _directive(described):
        raise bad_request(f"the directive {directive} of a strategic merge patch is not served for Nodes")
    return lambda document: patch.merge(document, described)


def _directive(described: Any) -> str:
    """The first directive in a strategic merge patch. Without one it is a merge patch: no list that can be written of
    a Node is merged by keys, taints neither."""
    if isinstance(described, list):
        return next(filter(None, map(_directive, described)), "")
    if not isinstance(described, dict):
        return ""
    own = next((key for key in described if key.startswith("$")), "")
    return own or next(filter(None, map(_directive, described.values())), "")


async def _write(call: ApiRequest, change: Callable[[Any], Any]) -> Response:
    document, warnings = await writing.replace(
        replace(call, kind=AGENTNODE), write_options(call.query), lambda old: written(old, change(node(old)))
    )
    return answer(call.view.one(node(document), call.context.clock.wall_ms()), 200, warnings)
