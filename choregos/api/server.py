"""The ASGI application: one request in, one answer out, every error a `metav1.Status`.

Invariant: `authentication.require` has allowed a request before anything else looks at it. Routes are derived from
the kinds; there is no table of paths.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from choregos.api import authentication
from choregos.api.authentication import Attributes
from choregos.api.context import ApiContext
from choregos.api.handlers import (
    agents,
    applying,
    calls,
    metrics,
    nodes,
    pods,
    reading,
    subresources,
    watching,
    writing,
)
from choregos.api.handlers.documents import Documents
from choregos.api.open_streams import OpenStreams
from choregos.api.projections.agents import agent
from choregos.api.projections.pods import FIELDS, pod
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import paths, status
from choregos.api.rules.metadata import Stamp, prepare_create
from choregos.api.rules.options import is_watch
from choregos.api.rules.paths import Target
from choregos.api.rules.status import Refusal, Subject, bad_request, method_not_allowed, unknown_path
from choregos.api.sources import AnySource, InstanceSource, NodeSource, Projection, StoredSource
from choregos.foundation.errors import AlreadyExists, ChoregosError, Temporary
from choregos.resources import meta, registry, validation
from choregos.resources.kind import Kind
from choregos.resources.kinds.agentnode import AGENTNODE

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
}
_HANDLERS: dict[str, dict[tuple[str, str], Handler]] = {
    "declarative": _STORED,
    "event": _STORED,
    "instance": _INSTANCE,
    "pod": {**_INSTANCE, ("eviction", "create"): pods.evict},
    "node": {**_READ, ("", "update"): nodes.update, ("", "patch"): nodes.patch_},
    "pod metrics": {("", "get"): metrics.get_pod, ("", "list"): metrics.list_pods},
    "node metrics": {("", "get"): metrics.get_node, ("", "list"): metrics.list_nodes},
    "virtual": {("", "create"): calls.create},
}
"""By the kind's plane: what serves a subresource (empty: the object itself) and verb."""


class ApiServer:
    """An ASGI application. `close` ends its open streams; it owns nothing else."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._sources = {
            (kind.group, kind.plural): source
            for kind in registry.KINDS
            if (source := _source(context, kind)) is not None
        }
        self._streams = OpenStreams()
        self._documents = Documents(_product_version())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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

    async def _respond(self, request: Request) -> Response:
        subject = Subject()
        call: ApiRequest | None = None
        try:
            call = self._authorized(request)
            if call is None:
                return self._documents.respond(request)
            handler = _handler(call, request.method)
            await _catch_up(call)
            return await handler(call)
        except ClientDisconnect:
            raise
        except ChoregosError as error:
            return _refuse(error, call.subject if call is not None else subject)
        except asyncio.CancelledError:
            if not self._streams.closing:
                raise
            # It has outlasted the time that requests have when the server ends.
            return _refuse(Temporary("the API server has ended before the request was done"), subject)
        except RecursionError:
            return _refuse(bad_request("the request is nested too deeply"), subject)
        except Exception:
            # What went wrong is for the operator's log; a client learns only that it was not his fault.
            log.exception("%s %s failed", request.method, request.url.path)
            return _refuse(Refusal(500, "InternalError", "an internal error occurred; see the server's log"), subject)

    def _authorized(self, request: Request) -> ApiRequest | None:
        """The request as handlers see it; None for a path that is no resource.

        Raises:
            Unauthenticated, Refusal
        """
        user = authentication.authenticate(request.scope)
        path = request.scope["path"]
        target = paths.parse(path)
        watch = target is not None and is_watch(request.query_params)
        verb = request.method.lower() if target is None else paths.verb(request.method, target, watch=watch)
        authentication.require(user, Attributes(verb, path, target))
        if target is None:
            return None
        kind = registry.by_plural(target.group, target.version, target.resource)
        if kind is None or (target.namespace and not kind.namespaced):
            raise unknown_path()
        return ApiRequest(
            context=self._context,
            request=request,
            user=user,
            target=target,
            kind=kind,
            source=self._sources.get((kind.group, kind.plural)),
            streams=self._streams,
            name=target.name,
        )


def build_app(context: ApiContext) -> ApiServer:
    """The application that serves all kinds of the registry from `context`."""
    return ApiServer(context)


async def ensure_defaults(context: ApiContext) -> None:
    """Creates the namespace `default` if it is missing. Raises: Temporary, the store cannot be reached."""
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


def _handler(call: ApiRequest, method: str) -> Handler:
    """What serves the request. Raises: Refusal 404 for an unknown subresource, 405 for a verb that is not served."""
    target, kind = call.target, call.kind
    subresource = target.subresource
    if subresource and subresource not in kind.subresource_names:
        raise unknown_path()
    verb = paths.verb(method, target, watch=is_watch(call.query))
    handler = _HANDLERS[kind.plane].get((subresource, verb))
    if handler is None or (not subresource and verb not in kind.verbs) or not _addressed(target, verb):
        raise method_not_allowed(kind.instead)
    return handler


async def _catch_up(call: ApiRequest) -> None:
    """A client reads what it was told is stored, whichever server has told it so, unless it asks for less.

    Raises: Temporary, this server cannot know: the store cannot be reached.
    """
    if call.request.method in ("GET", "HEAD") and (call.query.get("resourceVersion") or call.query.get("continue")):
        return
    if call.source is not None:
        await call.source.catch_up()
    if call.kind.plane != "declarative" and call.request.method == "POST":
        await call.context.resources.catch_up()  # which has the namespaces


def _addressed(target: Target, verb: str) -> bool:
    """A POST goes to a collection, or to a subresource of one object; what changes one object names it."""
    if verb == "create":
        return bool(target.name) is bool(target.subresource)
    return verb in ("list", "watch", "deletecollection") or bool(target.name)


def _refuse(error: ChoregosError, subject: Subject) -> Response:
    failure = status.failure(error, subject)
    response = answer(failure.body, failure.code)
    for name, value in failure.headers.items():
        response.headers[name] = value
    return response


def _product_version() -> str:
    try:
        return version("choregos")
    except PackageNotFoundError:
        return "0"
