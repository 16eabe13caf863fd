"""One request as its handler sees it, the bounds on it, and how its answers are put on the wire."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from choregos.api.access.gate import Gate, Passage
from choregos.api.apply.ownership import Author
from choregos.api.context import ApiContext
from choregos.api.quotas import Quotas
from choregos.api.rules import codec
from choregos.api.rules.options import WriteOptions, manager_of
from choregos.api.rules.paths import Target
from choregos.api.rules.status import Subject
from choregos.api.rules.views import View, view
from choregos.api.sharing.answers import Answers
from choregos.api.sharing.decisions import Decider
from choregos.api.sharing.fairness import Seat, flow_of
from choregos.api.sharing.open_streams import OpenStreams
from choregos.api.sources import AnySource
from choregos.foundation.timestamp import rfc3339
from choregos.resources.kind import Kind
from choregos.resources.registry import group_versions
from choregos.security.rbac import User

T = TypeVar("T")
WARNINGS_MAX = 50


@dataclass(slots=True)
class ApiRequest:
    """An authenticated, authorized request for a resource that is served.

    Attributes:
        source: reads the objects of `kind`; None for a virtual kind.
        name: of the object; for a creation it is learned from the body, so that an error can name it.
        body: whole; empty of one that reads.
        decider: does what is computed for it.
        seat: while it is worked on, unless it waits for others than the store.
        repeated: paths of keys that its body gives more than once.
    """

    context: ApiContext
    request: Request
    gate: Gate
    passage: Passage
    target: Target
    kind: Kind
    source: AnySource | None
    streams: OpenStreams
    quotas: Quotas
    answers: Answers
    decider: Decider
    name: str
    body: bytes = b""
    seat: Seat | None = None
    repeated: tuple[str, ...] = ()

    @property
    def user(self) -> User:
        """As whom it acts."""
        return self.passage.user

    def require(self, verb: str) -> None:
        """For a request that turns out to do something else as well. Raises: Refusal 403, the user may not do that."""
        self.gate.require(self.user, replace(self.passage.wanted, verb=verb))

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    @property
    def flow(self) -> str:
        """Among whom the server is shared fairly."""
        return flow_of(self.user.name)

    @property
    def subject(self) -> Subject:
        return Subject(self.target.group, self.kind.kind, self.kind.plural, self.name)

    @property
    def view(self) -> View:
        """
        Raises:
            Refusal: 406, the client takes nothing that is served; 400, it asks for rows that are unknown.
        """
        return view(self.kind, self.api_version, accepted(self.request), self.query.get("includeObject"))

    def author(self, options: WriteOptions) -> Author:
        """Who writes, for `managedFields`."""
        target, kind = self.target, self.kind
        served = (target.group, target.version) in group_versions(kind)
        return Author(
            kind=kind,
            manager=manager_of(options, self.request.headers.get("user-agent", "")),
            api_version=self.api_version if served else kind.api_version,
            subresource=target.subresource,
            time=rfc3339(self.context.clock.wall_ms()),
        )

    @property
    def api_version(self) -> str:
        """Under which the request addresses its objects."""
        target = self.target
        return f"{target.group}/{target.version}" if target.group else target.version

    @property
    def content_type(self) -> str:
        return self.request.headers.get("content-type", "")

    async def document(self) -> dict[str, Any]:
        """The body as an object."""
        return await self._decoded(codec.decode_object)

    async def value(self) -> Any:
        """The body, which need not be an object."""
        return await self._decoded(codec.decode)

    async def _decoded(self, decode: Callable[[bytes, str], T]) -> T:
        def read() -> tuple[T, tuple[str, ...]]:
            decoded = decode(self.body, self.content_type)
            return decoded, codec.repeated_keys(self.body, self.content_type, decoded)

        decoded, self.repeated = await self.decider.decide(read)
        return decoded

    def reading(self) -> AnySource:
        """The source, of a kind that has one."""
        assert self.source is not None, f"{self.kind.kind} is not stored"
        return self.source


def accepted(request: Request) -> codec.Accept:
    """What form of the answer the client takes. Raises: Refusal 406, none that is served."""
    return codec.accept(",".join(request.headers.getlist("accept")))


def answer(document: Any, code: int = 200, warnings: Iterable[str] = ()) -> Response:
    """A JSON answer; each warning is a header of its own, which kubectl prints."""
    response = Response(codec.encode(document), code, media_type=codec.JSON)
    for number, warning in enumerate(warnings):
        if number == WARNINGS_MAX:
            break
        response.headers.append("warning", f"299 - {_quoted(warning)}")
    return response


def _quoted(text: str) -> str:
    """An RFC 9110 quoted-string, ASCII only and without control characters, which no header may hold."""
    plain = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.split()))
    plain = plain.encode("ascii", "backslashreplace").decode()
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client goes away. The body must have been read before.

    Raises:
        ClientDisconnect: the client went away first.
    """
    outcome: list[T] = []
    failures: list[Exception] = []

    async def perform(scope: anyio.CancelScope) -> None:
        # Kept rather than raised, so that no ExceptionGroup hides the error's class from the caller.
        try:
            outcome.append(await work)
        except Exception as error:
            failures.append(error)
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(perform, group.cancel_scope)
        while (await request.receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    if not outcome:
        raise ClientDisconnect
    return outcome[0]
