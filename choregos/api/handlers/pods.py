"""What can be asked of a Pod beyond what can be asked of its Agent: eviction, which `kubectl drain` uses."""

from __future__ import annotations

from starlette.responses import Response

from choregos.api.handlers.agents import request_deletion
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules.options import delete_options
from choregos.api.rules.status import bad_request, success


async def evict(call: ApiRequest) -> Response:
    """POST of a policy/v1 Eviction: a deletion. No budget stands in its way: the set of the agent has its own bounds
    for what it replaces itself, and whoever empties a node wants it empty."""
    body = await call.document()
    metadata, given = body.get("metadata") or {}, body.get("deleteOptions") or {}
    if body.get("kind", "Eviction") != "Eviction" or not isinstance(given, dict):
        raise bad_request("the request body must be an Eviction of policy/v1")
    if metadata.get("name") not in (None, "", call.name):
        raise bad_request(f"name in URL does not match name in Eviction object: {call.name} != {metadata['name']}")
    instance = call.context.directory.get(call.target.namespace, call.name)
    await request_deletion([instance], call, delete_options(given, call.query))
    return answer(success(call.subject, instance.record.uid), 201)
