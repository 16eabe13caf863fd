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
from choregos.api.rules.options import write_options
from choregos.resources.kinds.agentnode import AGENTNODE


async def update(call: ApiRequest) -> Response:
    body = await call.document()
    return await _write(call, lambda _: body)


async def patch_(call: ApiRequest) -> Response:
    return await _write(call, await writing.read_patch(call))


async def _write(call: ApiRequest, change: Callable[[Any], Any]) -> Response:
    document, warnings = await writing.replace(
        replace(call, kind=AGENTNODE), write_options(call.query), lambda old: written(old, change(node(old)))
    )
    return answer(call.view.one(node(document), call.context.clock.wall_ms()), 200, warnings)
