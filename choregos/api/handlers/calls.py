"""POST of an AgentCall: makes the call and answers with the object, its status filled. Nothing is stored.

A call that fails is still an answer (201 with `status.error`): the request was carried out, and the agent's error is
its result. A client that goes away cancels the call.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from choregos.api.handlers.writing import admit_to_namespace, validated
from choregos.api.requests import ApiRequest, answer, while_connected
from choregos.api.rules import codec, metadata
from choregos.api.rules.options import write_options
from choregos.foundation.errors import CallError, HandlerFailed
from choregos.mesh.routes import Target


async def create(call: ApiRequest) -> Response:
    options = write_options(call.query)
    body = await call.document()
    metadata.check_type(call.kind, body)
    document, warnings = await validated(call, body, options)
    admit_to_namespace(call)
    document["metadata"] = {**document.get("metadata", {}), "namespace": call.target.namespace}
    if not options.dry_run:
        with call.streams.open(call.flow):
            document["status"] = await while_connected(call.request, _perform(call, document["spec"]))
    return answer(document, 201, warnings)


async def _perform(call: ApiRequest, spec: dict[str, Any]) -> dict[str, Any]:
    """The status of the finished call."""
    limits, clock = call.context.limits, call.context.clock
    started = clock.monotonic()
    status: dict[str, Any]
    target = Target(call.target.namespace, spec.get("agent", ""), spec.get("capability", ""), spec.get("selector", ""))
    try:
        outcome = await call.context.caller.ask(
            target,
            spec.get("method", ""),
            spec.get("arguments", {}),
            timeout_s=min(float(spec.get("timeoutSeconds", limits.call_s_default)), limits.call_s_max),
            caller=call.user.name,
        )
        status = {"result": _as_json(outcome.result, outcome.agent)} if outcome.result is not None else {}
        agent = outcome.agent
    except CallError as error:
        failure = {"code": error.code, "message": str(error)}
        failure |= {"type": error.remote_type, "traceback": error.remote_traceback}
        status = {"error": {name: text for name, text in failure.items() if text}}
        agent = error.agent
    status |= {"agent": agent} if agent else {}
    return {**status, "durationMilliseconds": round((clock.monotonic() - started) * 1000, 3)}


def _as_json(result: Any, agent: str) -> msgspec.Raw:
    """A result as JSON, encoded once; bytes become base64.

    Raises:
        HandlerFailed: agents may send each other more than JSON can say, such as a map whose keys are no text.
    """
    try:
        return msgspec.Raw(codec.encode(result))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the result cannot be said in JSON: {error}"
        raise HandlerFailed(message, agent=agent, remote_type=type(error).__name__) from error
