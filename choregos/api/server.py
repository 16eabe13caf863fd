"""The ASGI application: one request in, one answer out, every error a `metav1.Status`.

Invariant: `access.gate` has admitted a request before anything else looks at it. Routes are derived from the kinds;
there is no table of paths.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from choregos.api.access.auditing import COMPLETE, STARTED, Auditor
from choregos.api.access.authenticators import Authenticators
from choregos.api.access.defaults import ensure_default_roles
from choregos.api.access.gate import Gate, Passage
from choregos.api.access.grants import Grants
from choregos.api.access.pace import RefusalPace
from choregos.api.context import ApiContext
from choregos.api.handlers import (
    account_tokens,
    agents,
    applying,
    calls,
    metrics,
    nodes,
    reading,
    reviews,
    subresources,
    watching,
    writing,
)
from choregos.api.handlers.documents import Documents
from choregos.api.projections.agents import agent
from choregos.api.projections.pods import FIELDS, pod
from choregos.api.quotas import Quotas
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import status
from choregos.api.rules.metadata import Stamp, prepare_create
from choregos.api.rules.options import list_options
from choregos.api.rules.paths import Target
from choregos.api.rules.status import Refusal, Subject, bad_request, method_not_allowed, unknown_path
from choregos.api.sharing.answers import Answers
from choregos.api.sharing.bodies import Bodies
from choregos.api.sharing.decisions import Decisions
from choregos.api.sharing.fairness import Fairness, flow_of
from choregos.api.sharing.open_streams import OpenStreams
from choregos.api.sharing.turned_away import TurnedAway
from choregos.api.sockets import commands, forwarding
from choregos.api.sources import AnySource, InstanceSource, NodeSource, Projection, StoredSource
from choregos.foundation.errors import AlreadyExists, ChoregosError, NotFound, Temporary
from choregos.resources import meta, registry, validation
from choregos.resources.kind import Kind
from choregos.resources.kinds.agentnode import AGENTNODE

OBJECTS_PER_SEAT = 500
"""Of a list, or of what a watch begins with."""

TOO_MANY = 429

log = logging.getLogger(__name__)

Handler = Callable[[ApiRequest], Awaitable[Response]]

_STORED: dict[tuple[str, str], Handler] = {
    ("", "get"): reading.get,
    ("", "list"): reading.list_,
    ("", "watch"): watching.watch,
    ("", "create"): writing.create,
    ("", "update"): writing.update,
    ("", "patch"): applying.patch_,
    ("", "delete"): writing.delete,
    ("", "deletecollection"): writing.delete_collection,
    ("status", "get"): reading.get,
    ("status", "update"): writing.update,
    ("status", "patch"): applying.patch_,
    ("scale", "get"): subresources.get_scale,
    ("scale", "update"): subresources.update_scale,
    ("scale", "patch"): subresources.patch_scale,
}
_READ: dict[tuple[str, str], Handler] = {
    ("", "get"): reading.get,
    ("", "list"): reading.list_,
    ("", "watch"): watching.watch,
}
_INSTANCE: dict[tuple[str, str], Handler] = {
    **_READ,
    ("", "delete"): agents.delete,
    ("", "deletecollection"): agents.delete_collection,
    ("log", "get"): agents.log,
    ("portforward", "create"): forwarding.refuse,
    ("portforward", "get"): forwarding.refuse,
}
_HANDLERS: dict[str, dict[tuple[str, str], Handler]] = {
    "declarative": _STORED,
    "event": _STORED,
    "instance": _INSTANCE,
    "pod": {
        **_INSTANCE,
        ("eviction", "create"): agents.evict,
        ("exec", "create"): commands.refuse,
        ("exec", "get"): commands.refuse,
        ("status", "get"): reading.get,
    },
    "node": {
        **_READ,
        ("", "update"): nodes.update,
        ("", "patch"): nodes.patch_,
        ("status", "get"): reading.get,
    },
    "pod metrics": {("", "get"): metrics.get_pod, ("", "list"): metrics.list_pods},
    "node metrics": {("", "get"): metrics.get_node, ("", "list"): metrics.list_nodes},
    "virtual": {},
}
"""By the kind's plane: what serves a subresource (empty: the object itself) and verb."""

_CREATE = ("", "create")
_OWN_HANDLERS: dict[str, dict[tuple[str, str], Handler]] = {
    "AgentCall": {_CREATE: calls.create},
    "LocalSubjectAccessReview": {_CREATE: reviews.local_subject_access},
    "SelfSubjectAccessReview": {_CREATE: reviews.self_access},
    "SelfSubjectReview": {_CREATE: reviews.self_subject},
    "SelfSubjectRulesReview": {_CREATE: reviews.self_rules},
    "ServiceAccount": {("token", "create"): account_tokens.create},
    "SubjectAccessReview": {_CREATE: reviews.subject_access},
    "TokenReview": {_CREATE: reviews.token},
}
"""By kind: what serves it besides."""

_SOCKETS: dict[Handler, Callable[[ApiRequest, WebSocket], Awaitable[None]]] = {
    commands.refuse: commands.connect,
    forwarding.refuse: forwarding.connect,
}
"""By what answers the request without a WebSocket: what serves it with one."""

_WITHOUT_FORM = ("exec", "log", "portforward")
"""Subresources that are answered with text, or not with a document at all."""

_WITHOUT_SEAT = ("virtual", "pod metrics", "node metrics")
"""Planes that wait for an agent or a node, or are answered from memory: nobody shall wait for a seat of theirs. Nor of
who waits for a node to say what an agent has logged. All that wait so are counted as open streams."""


class ApiServer:
    """An ASGI application. `close` ends its open streams and its gate; it owns nothing else."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._gate = Gate(
            Authenticators(context.tokens, context.resources),
            Grants(context.resources),
            Auditor(context.audit, context.audit_refused, context.clock, context.ids),
            RefusalPace(context.limits.refusals, context.clock),
        )
        self._sources = {
            (kind.group, kind.plural): source
            for kind in registry.KINDS
            if (source := _source(context, kind)) is not None
        }
        self._streams = OpenStreams(context.limits.streams_max)
        self._bodies = Bodies(context.limits.body_bytes_max, context.limits.bodies_bytes_max, context.limits.body_s)
        self._answers = Answers(context.limits.answers_bytes_max)
        self._quotas = Quotas(context.resources, context.limits.quota_attempts_max)
        self._fairness = Fairness(context.limits.fairness)
        self._decisions = Decisions(context.limits.heavy, context.clock)
        self._turned_away = TurnedAway(context.clock)
        self._documents = Documents(_product_version(), context.resources)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._connect(WebSocket(scope, receive, send))
            return
        if scope["type"] != "http":
            raise ValueError(f"the API server speaks HTTP only, not {scope['type']}")
        try:
            response = await self._respond(Request(scope, receive))
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def close(self) -> None:
        """Ends watches and followed logs; every later one ends at once."""
        self._streams.close()
        self._gate.close()
        await self._quotas.close()
        self._decisions.close()

    async def _respond(self, request: Request) -> ASGIApp:
        passage: Passage | None = None
        call: ApiRequest | None = None
        message = ""
        try:
            passage = await self._gate.admit(request)
            if passage.target is None:
                response = await self._documents.respond(request)
            else:
                call = self._call(request, passage, passage.target)
                handler = _handler(call)
                _check_form(call)
                response = await self._handle(call, handler)
        except ClientDisconnect:
            raise
        except (Exception, asyncio.CancelledError) as error:
            message = str(error)
            response = self._failed(error, request, call.subject if call is not None else Subject())
        if passage is not None:
            if response.status_code == TOO_MANY:
                self._turned_away.note(flow_of(passage.user.name), message)
            stage = STARTED if isinstance(response, StreamingResponse) else COMPLETE
            self._gate.answered(passage, response.status_code, stage=stage, message=message)
            return self._answers.counted(flow_of(passage.user.name), response)
        return response

    async def _connect(self, socket: WebSocket) -> None:
        """A WebSocket, from its handshake to its end."""
        # For those who look at headers and parameters; a handshake has no body.
        request = Request({**socket.scope, "type": "http", "method": "GET"})
        passage: Passage | None = None
        call: ApiRequest | None = None
        try:
            passage = await self._gate.admit(socket)
            call = self._call(request, passage, passage.target or Target("", "", ""))
            serve = _SOCKETS.get(_handler(call))
            if serve is None:
                raise bad_request("nothing but exec and portforward is served over WebSockets")  # noqa: TRY301
            await _catch_up(call)
            await self._context.resources.catch_up()  # which has what the namespace allows
            await serve(call, socket)
            self._gate.answered(passage, 101)
        except (Exception, asyncio.CancelledError) as error:
            refusal = self._failed(error, request, call.subject if call is not None else Subject())
            if passage is not None:
                self._gate.answered(passage, refusal.status_code, message=str(error))
            if socket.application_state is WebSocketState.CONNECTING:
                await socket.send_denial_response(refusal)

    def _failed(self, error: BaseException, request: Request, subject: Subject) -> Response:
        """The answer to a request that raised `error`; raises it again if the request itself was given up."""
        if isinstance(error, ChoregosError):
            return _refuse(error, subject)
        if isinstance(error, asyncio.CancelledError):
            if not self._streams.closing:
                raise error
            # It has outlasted the time that requests have when the server ends.
            return _refuse(Temporary("the API server has ended before the request was done"), Subject())
        if isinstance(error, RecursionError):
            return _refuse(bad_request("the request is nested too deeply"), Subject())
        # What went wrong is for the operator's log; a client learns only that it was not his fault.
        log.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
        return _refuse(Refusal(500, "InternalError", "an internal error occurred; see the server's log"), Subject())

    async def _handle(self, call: ApiRequest, handler: Handler) -> Response:
        if call.request.method in ("GET", "HEAD"):
            return await self._in_turn(call, handler)
        async with self._bodies.read(call.flow, call.request) as call.body:
            call.decider = self._decisions.of(call.flow, call.body, _present(call))
            return await self._in_turn(call, handler)

    async def _in_turn(self, call: ApiRequest, handler: Handler) -> Response:
        # Before it takes anything: who waits for what does not come yet shall keep nobody waiting.
        await _catch_up(call)
        if call.kind.plane in _WITHOUT_SEAT or handler is agents.log:
            self._answers.require_room(call.flow)
            return await handler(call)
        async with call.decider.place(), self._fairness.seat(call.flow, _width(call)) as call.seat:
            self._answers.require_room(call.flow)
            return await handler(call)

    def _call(self, request: Request, passage: Passage, target: Target) -> ApiRequest:
        """The request as handlers see it. Raises: Refusal 404, nothing is served there."""
        kind = registry.by_plural(target.group, target.version, target.resource)
        if kind is None or (target.namespace and not kind.namespaced):
            raise unknown_path()
        return ApiRequest(
            context=self._context,
            request=request,
            gate=self._gate,
            passage=passage,
            target=target,
            kind=kind,
            source=self._sources.get((kind.group, kind.plural)),
            streams=self._streams,
            quotas=self._quotas,
            answers=self._answers,
            decider=self._decisions.of(flow_of(passage.user.name), b""),
            name=target.name,
        )


def build_app(context: ApiContext) -> ApiServer:
    """The application that serves all kinds of the registry from `context`."""
    return ApiServer(context)


async def ensure_defaults(context: ApiContext) -> None:
    """Creates the namespace `default` and the default roles, as far as they are missing.

    Raises:
        Temporary: the store cannot be reached.
    """
    await ensure_default_roles(context.resources, context.clock, context.ids)
    namespace = registry.by_resource("namespaces")
    assert namespace is not None
    stamp = Stamp(context.clock.wall_ms(), context.ids.uid(), "")
    document = prepare_create(namespace, {"metadata": {"name": meta.DEFAULT_NAMESPACE}}, namespace="", stamp=stamp)
    try:
        await context.resources.create(namespace.plural, validation.validate(namespace, document).object)
    except AlreadyExists:
        return


def _source(context: ApiContext, kind: Kind) -> AnySource | None:
    match kind.plane:
        case "declarative":
            return StoredSource(context.resources, kind)
        case "event":
            return StoredSource(context.events, kind)
        case "instance":
            return InstanceSource(context.directory, Projection(agent))
        case "pod" | "pod metrics":  # what is measured
            return InstanceSource(context.directory, Projection(pod, FIELDS))
        case "node" | "node metrics":
            return NodeSource(context.resources, AGENTNODE)
    return None


def _handler(call: ApiRequest) -> Handler:
    """What serves the request. Raises: Refusal 404 for an unknown subresource, 405 for a verb that is not served."""
    target, kind, verb = call.target, call.kind, call.passage.wanted.verb
    subresource = target.subresource
    if subresource and subresource not in kind.subresource_names:
        raise unknown_path()
    place = (subresource, verb)
    handler = _OWN_HANDLERS.get(kind.kind, {}).get(place) or _HANDLERS[kind.plane].get(place)
    if handler is None or (not subresource and verb not in kind.verbs) or not _addressed(target, verb):
        raise method_not_allowed(kind.instead)
    return handler


def _check_form(call: ApiRequest) -> None:
    """Before anything is done whose answer the client would not take. Raises: Refusal, as `ApiRequest.view`."""
    if call.target.subresource not in _WITHOUT_FORM:
        _ = call.view


def _width(call: ApiRequest) -> int:
    """How many seats it takes: as many as what it shows, or looks through, is more work than any other request.

    Raises:
        Refusal: 400, its options cannot be read.
    """
    verb = call.passage.wanted.verb
    if verb not in ("list", "watch", "deletecollection") or call.target.name:
        return 1
    options = list_options(call.query)
    if verb == "watch" and not watching.shows_state(options):
        return 1
    number = call.reading().count(call.target.namespace)
    if options.limit and not options.label_selector and not options.field_selector:
        number = min(number, options.limit)
    return max(1, -(-number // OBJECTS_PER_SEAT))


async def _catch_up(call: ApiRequest) -> None:
    """A client reads what it was told is stored, whichever server has told it so, unless it asks for less, or more.

    Raises:
        Temporary: this server cannot know; the store cannot be reached.
        Refusal: as `reading.wait_for_revision`; 400, its options cannot be read.
    """
    if call.request.method in ("GET", "HEAD") and call.query.get("resourceVersion"):
        if call.source is not None:
            await reading.wait_for_revision(call, list_options(call.query).revision)
        return
    caught_up = call.passage.caught_up
    if call.source is not None and not (caught_up and call.kind.plane in ("declarative", "node")):
        await call.source.catch_up()
    if call.kind.plane != "declarative" and call.request.method == "POST" and not caught_up:
        await call.context.resources.catch_up()  # which has the namespaces


def _present(call: ApiRequest) -> Any:
    """The stored object that a request will change, as far as is known before its turn."""
    if not isinstance(call.source, StoredSource) or not call.target.name:
        return None
    try:
        return call.source.get(call.target.namespace, call.target.name)
    except NotFound:
        return None


def _addressed(target: Target, verb: str) -> bool:
    """A POST goes to a collection, or to a subresource of one object; what changes one object names it."""
    if verb == "create":
        return bool(target.name) is bool(target.subresource)
    return verb in ("list", "watch", "deletecollection") or bool(target.name)


def _refuse(error: ChoregosError, subject: Subject) -> Response:
    failure = status.failure(error, subject)
    response = answer(failure.body, failure.code)
    if failure.code == 408:
        response.headers["Connection"] = "close"  # what it sends later would be read as the next request
    for name, value in failure.headers.items():
        response.headers[name] = value
    return response


def _product_version() -> str:
    try:
        return version("choregos")
    except PackageNotFoundError:
        return "0"
