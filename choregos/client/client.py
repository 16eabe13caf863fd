"""The client of the API: `Client` (async) for programs and for the command line.

    async with Client.from_kubeconfig() as client:
        await client.apply(manifest)
        await client.wait("agentcluster", "support", "condition=Ready", timeout_s=60)
        answer = await client.call(capability="conversation", method="reply", text="Hello")

Objects are dictionaries, as decoded JSON; kinds are named as for kubectl (`agents`, `ag`, `agents.choregos.dev`).
A namespace of None is the kubeconfig's, `""` is all of them. Every method raises the classes of
`choregos.foundation.errors`: `Temporary` when the server cannot be reached.

Does not cache objects: who needs them at hand follows `watch`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from choregos.client import applying, discovery
from choregos.client.applying import MERGE_PATCH, Applied, Place
from choregos.client.connection import JSON, Connection
from choregos.client.discovery import Catalogue, ResourceType
from choregos.client.goals import parse_goal
from choregos.client.statuses import error_of_call
from choregos.client.watching import Listing, Object, Watch, WatchEvent, list_all
from choregos.foundation.clock import Clock, SystemClock
from choregos.foundation.errors import Invalid, NotFound, PayloadTooLarge, TimedOut, TooLarge
from choregos.foundation.settings import Environment, load_environment
from choregos.foundation.timeout import timeout
from choregos.security.kubeconfig import ApiAccess, load_kubeconfig

if TYPE_CHECKING:
    from choregos.client.sockets import AgentPort

JSON_PATCH = "application/json-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

CALL_MARGIN_S = 5.0
"""The server ends a call that is over; the client waits this much longer for its answer, then gives up itself."""

Objects = list[Object]
Patch = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A mapping is a JSON merge patch (RFC 7386), a sequence a JSON patch (RFC 6902)."""


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """What a call returned.

    Attributes:
        agent: name of the agent that answered.
        duration_ms: as the server measured it, in milliseconds.
    """

    result: Any
    agent: str
    duration_ms: float


class Client:
    """A connection to one API server; close it, or use it as a context."""

    def __init__(self, access: ApiAccess, *, clock: Clock | None = None) -> None:
        self._connection = Connection(access)
        self._namespace = access.namespace
        self._clock: Clock = clock or SystemClock()
        self._catalogue: Catalogue | None = None
        self._discovering = asyncio.Lock()

    @classmethod
    def from_kubeconfig(cls, path: str | Path | None = None, *, context: str = "", server: str = "") -> Client:
        """A client for the server of a kubeconfig.

        Args:
            path: None: the data directory's if there is one (`$CHOREGOS_DATA_DIR`, else `.choregos`), then
                `$KUBECONFIG`.
            context: empty: the kubeconfig's current one.
            server: URL of another API server of the same fleet; empty: the kubeconfig's.

        Raises:
            NotFound: there is no kubeconfig.
            Invalid: it cannot be used; the message says why.
        """
        paths = [Path(path)] if path is not None else kubeconfig_paths(load_environment())
        access = load_kubeconfig(paths, context=context)
        return cls(replace(access, server=server) if server else access)

    @property
    def namespace(self) -> str:
        """The namespace that is used when none is named."""
        return self._namespace

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._connection.server

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connection.close()

    # Reading

    async def version(self) -> Object:
        """What the server says of itself: `gitVersion`, `platform`, …"""
        return _object(await self._connection.request("GET", "/version"))

    async def catalogue(self) -> Catalogue:
        """What the server serves; asked for once."""
        async with self._discovering:
            if self._catalogue is None:
                core, groups = await asyncio.gather(
                    *(self._connection.request("GET", path, accept=discovery.ACCEPT) for path in ("/api", "/apis"))
                )
                self._catalogue = discovery.parse_catalogue((core, groups))
        return self._catalogue

    async def get(self, kind: str, name: str, *, namespace: str | None = None) -> Object:
        """One object.

        Raises:
            NotFound: it does not exist.
        """
        resource = await self._resource(kind)
        return _object(await self._connection.request("GET", self._path(resource, namespace, name)))

    async def list(
        self, kind: str, *, namespace: str | None = None, selector: str = "", field_selector: str = ""
    ) -> Objects:
        """All objects of a kind, read in pages of one and the same revision."""
        return (await self.listing(kind, namespace=namespace, selector=selector, field_selector=field_selector)).items

    async def listing(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        selector: str = "",
        field_selector: str = "",
        tables: bool = False,
    ) -> Listing:
        """As `list`, with the revision to watch from.

        Args:
            tables: have each object as a one-row `meta.k8s.io/v1 Table` with the server's columns.
        """
        resource = await self._resource(kind)
        query = _selection(selector, field_selector)
        return await list_all(
            self._connection, self._path(resource, namespace), query, accept=TABLE if tables else JSON
        )

    async def watch(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        selector: str = "",
        field_selector: str = "",
        after: Listing | None = None,
        tables: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Every change, for ever: end it by closing the iterator.

        Begins with every present object as ADDED, or after a `listing`. Goes on over lost connections and restarts
        of the server: it lists again, and tells the difference.
        """
        resource = await self._resource(kind)
        query = _selection(selector, field_selector)
        accept = TABLE if tables else JSON
        path = self._path(resource, namespace)
        watch = Watch(self._connection, path, query, self._clock, after=after, accept=accept)
        async with contextlib.aclosing(watch.events()) as events:
            async for event in events:
                yield event

    async def events(self, *, namespace: str | None = None, about: Object | None = None) -> Objects:
        """The Events of a namespace, oldest first; only those about one object if it is given."""
        namespace = about["metadata"].get("namespace", "default") if about else namespace
        fields = f"involvedObject.uid={about['metadata']['uid']}" if about else ""
        found = await self.list("events", namespace=namespace, field_selector=fields)
        return sorted(found, key=event_time)

    async def logs(
        self,
        agent: str,
        *,
        namespace: str | None = None,
        follow: bool = False,
        tail_lines: int | None = None,
        since_s: int | None = None,
        previous: bool = False,
    ) -> AsyncGenerator[str, None]:
        """The lines of an agent's log since it was last started, oldest first; with `follow` as long as it lives.

        Args:
            tail_lines: only that many of the last ones.
            since_s: only those of that many last seconds.
            previous: those before it was last started instead, from its start before that.
        """
        resource = await self._resource("agents")
        query = {"follow": "true"} if follow else {}
        query |= {"tailLines": str(tail_lines)} if tail_lines is not None else {}
        query |= {"sinceSeconds": str(since_s)} if since_s is not None else {}
        query |= {"previous": "true"} if previous else {}
        path = self._path(resource, namespace, agent, "log")
        lines = self._connection.lines(path, query, accept="text/plain, application/json", silence_s_max=None)
        async with contextlib.aclosing(lines):
            async for line in lines:
                yield line.decode(errors="replace")

    # Writing

    async def create(self, manifest: Object, *, dry_run: bool = False) -> Object:
        """Stores a new object.

        Raises:
            AlreadyExists: one of this name exists.
            Invalid: it is refused, with every fault.
        """
        resource, namespace, _ = await self._target(manifest)
        query = _writing(dry_run)
        return _object(
            await self._connection.request("POST", self._path(resource, namespace), query=query, body=manifest)
        )

    async def replace(self, obj: Object) -> Object:
        """Writes a whole object over the one that was read.

        Raises:
            Conflict: it has changed since; `metadata.resourceVersion` says what was read.
            NotFound: it does not exist.
        """
        resource, namespace, name = await self._target(obj)
        return _object(await self._connection.request("PUT", self._path(resource, namespace, name), body=obj))

    async def apply(
        self, manifest: Object, *, dry_run: bool = False, server_side: bool = False, force: bool = False
    ) -> Applied:
        """Makes the object as the manifest says: creates it, or changes what differs, as `kubectl apply` does.

        What the last apply set and this one leaves out is removed; what others set is left alone.

        Args:
            server_side: the server keeps who owns which field (manager `choregos`), and the object no copy of the
                manifest; needed for one of more than 256 KiB.
            force: server-side, takes over fields that others own and the manifest says otherwise.

        Raises:
            Invalid: it is refused, with every fault.
            Conflict: it kept changing meanwhile; server-side, others own what it would change.
        """
        resource, namespace, name = await self._target(manifest)
        path = self._path(resource, namespace, name)
        if resource.namespaced:
            manifest = {**manifest, "metadata": {**(manifest.get("metadata") or {}), "namespace": namespace}}
        place = Place(self._connection, self._path(resource, namespace), path)
        if server_side:
            return await applying.server_side(place, manifest, _writing(dry_run), force=force)
        if force:
            raise Invalid("only a server-side apply can be forced")
        return await applying.client_side(place, manifest, _writing(dry_run))

    async def patch(
        self,
        kind: str,
        name: str,
        patch: Patch,
        *,
        namespace: str | None = None,
        subresource: str = "",
    ) -> Object:
        """Changes part of an object."""
        resource = await self._resource(kind)
        content_type = MERGE_PATCH if isinstance(patch, Mapping) else JSON_PATCH
        path = self._path(resource, namespace, name, subresource)
        return _object(await self._connection.request("PATCH", path, body=patch, content_type=content_type))

    async def scale(self, kind: str, name: str, replicas: int, *, namespace: str | None = None) -> Object:
        """Sets how many there shall be; returns the `autoscaling/v1 Scale`.

        Raises:
            Invalid: this kind has no number of replicas.
        """
        resource = await self._resource(kind)
        if "scale" not in resource.subresources:
            raise Invalid(f"{resource.plural} cannot be scaled; an AgentSet can")
        return await self.patch(kind, name, {"spec": {"replicas": replicas}}, namespace=namespace, subresource="scale")

    async def delete(
        self, kind: str, name: str, *, namespace: str | None = None, grace_s: int | None = None, uid: str = ""
    ) -> str:
        """Asks for an object to be deleted; returns its uid. It is gone once `wait(…, "delete")` has returned.

        Args:
            grace_s: seconds it may take to end by itself; None: as it says itself.
            uid: delete only this one, not a successor of the same name.

        Raises:
            NotFound: it does not exist.
        """
        resource = await self._resource(kind)
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        options |= {"gracePeriodSeconds": grace_s} if grace_s is not None else {}
        options |= {"preconditions": {"uid": uid}} if uid else {}
        answer = await self._connection.request("DELETE", self._path(resource, namespace, name), body=options)
        details = answer.get("details") if answer.get("kind") == "Status" else answer["metadata"]
        return str((details or {}).get("uid", ""))

    # Waiting and calling

    async def wait(
        self, kind: str, name: str, goal: str, *, timeout_s: float, namespace: str | None = None, uid: str = ""
    ) -> Object | None:
        """Returns the object once it is as `goal` says (`goals.parse_goal`); None once it is gone.

        Args:
            uid: with `delete`: a successor of the same name counts as gone.

        Raises:
            NotFound: it does not exist, and `goal` is neither `create` nor `delete`.
            TimedOut: it is not so after `timeout_s` seconds; the message says how it is.
        """
        parsed = parse_goal(goal)
        fields = f"metadata.name={name}"
        # Looked at once before the time counts, so that the message can always tell how it is.
        listing = await self.listing(kind, namespace=namespace, field_selector=fields)
        current = _only(listing.items[0], uid) if listing.items else None
        if current is None and parsed.of_existing:
            raise NotFound(f"{kind} {name} does not exist, so it cannot reach {parsed.words}")
        changes = self.watch(kind, namespace=namespace, field_selector=fields, after=listing)
        try:
            async with timeout(timeout_s), contextlib.aclosing(changes):
                while not parsed.met(current):
                    event = await anext(changes)
                    current = None if event.type == "DELETED" else _only(event.object, uid)
        except TimeoutError as error:
            state = parsed.state(current)
            raise TimedOut(f"{kind} {name} did not reach {parsed.words} within {timeout_s:g} s: {state}") from error
        return current

    async def call(
        self,
        *,
        agent: str = "",
        capability: str = "",
        method: str = "",
        timeout_s: float = 30.0,
        namespace: str | None = None,
        selector: str = "",
        **arguments: Any,
    ) -> Any:
        """Runs a method of an agent and returns its result.

        Args:
            agent: name of the agent; or
            capability: what it must be able to do: the best of those that can is asked.
            method: may be left out with a capability that one method serves.
            selector: label selector that narrows the agents with the capability.
            arguments: of the method. One that is named like a parameter here goes through `call_detailed`.

        Raises:
            CallError: there is no result; the subclass says why, `remote_traceback` where.
        """
        spec = {"agent": agent, "capability": capability, "method": method, "selector": selector}
        answer = await self.call_detailed(spec, arguments, timeout_s=timeout_s, namespace=namespace)
        return answer.result

    async def call_detailed(
        self, target: Mapping[str, str], arguments: Mapping[str, Any], *, timeout_s: float, namespace: str | None = None
    ) -> CallAnswer:
        """As `call`, and tells who answered; `target` has `agent` or `capability`, `method`, `selector`."""
        resource = await self._resource("agentcalls")
        spec = {key: value for key, value in target.items() if value}
        manifest = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "spec": {**spec, "arguments": dict(arguments), "timeoutSeconds": timeout_s},
        }
        path = self._path(resource, namespace)
        try:
            answer = await self._connection.request("POST", path, body=manifest, timeout_s=timeout_s + CALL_MARGIN_S)
        except TooLarge as error:
            raise PayloadTooLarge(str(error)) from error
        status = answer.get("status") or {}
        if status.get("error"):
            raise error_of_call({"agent": status.get("agent"), **status["error"]})
        return CallAnswer(
            status.get("result"), str(status.get("agent") or ""), float(status.get("durationMilliseconds") or 0)
        )

    @asynccontextmanager
    async def connect_port(self, agent: str, port: int, *, namespace: str | None = None) -> AsyncIterator[AgentPort]:
        """A TCP connection to a port of the loopback on which an agent's worker listens, through the API server.

        Raises:
            NotFound: there is no such agent.
            Denied: no role allows it, or the namespace does not; the message says how it is allowed.
            Invalid: the agent is in no worker now.
        """
        from choregos.client.sockets import PORT_PROTOCOL, AgentPort

        path = self._path(await self._resource("agents"), namespace, agent, "portforward")
        async with self._connection.socket(path, {"ports": str(port)}, PORT_PROTOCOL) as socket:
            yield AgentPort(socket)

    # Paths

    async def _resource(self, kind: str) -> ResourceType:
        return (await self.catalogue()).by_word(kind)

    async def _target(self, manifest: Object) -> tuple[ResourceType, str, str]:
        """Where a manifest goes: its type, namespace and name."""
        metadata = manifest.get("metadata") or {}
        resource = (await self.catalogue()).by_kind(str(manifest.get("apiVersion")), str(manifest.get("kind")))
        return resource, metadata.get("namespace") or self._namespace, str(metadata.get("name") or "")

    def _path(self, resource: ResourceType, namespace: str | None, name: str = "", subresource: str = "") -> str:
        chosen = self._namespace if namespace is None else namespace
        if name and not chosen and resource.namespaced:
            raise Invalid(f"one of the {resource.plural} can only be meant together with its namespace")
        if "/" in name:
            raise Invalid(f"{name!r} is no name of an object")
        return resource.path(chosen, name, subresource)


def kubeconfig_paths(environment: Environment, data_directory: Path | None = None) -> list[Path]:
    """Where to look for a kubeconfig: the data directory's own first, because a `$KUBECONFIG` of another cluster may
    be set all day."""
    own = (data_directory or environment.data_directory) / "kubeconfig"
    if own.exists() or not environment.kubeconfigs:
        return [own]
    return [*environment.kubeconfigs]


def event_time(event: Mapping[str, Any]) -> str:
    """When a core/v1 Event happened last, as RFC 3339."""
    for key in ("lastTimestamp", "eventTime", "firstTimestamp"):
        if event.get(key):
            return str(event[key])
    return str(event["metadata"].get("creationTimestamp") or "")


def _only(obj: Object, uid: str) -> Object | None:
    """The object, unless it is a successor of the one that is meant."""
    return obj if not uid or obj["metadata"]["uid"] == uid else None


def _selection(selector: str, field_selector: str) -> dict[str, str]:
    query = {"labelSelector": selector, "fieldSelector": field_selector}
    return {key: value for key, value in query.items() if value}


def _writing(dry_run: bool) -> dict[str, str]:
    query = {"fieldManager": "choregos", "fieldValidation": "Strict"}
    return {**query, "dryRun": "All"} if dry_run else query


def _object(answer: Any) -> Object:
    return dict(answer)
