"""The kinds of request, as what one client does over and over. Runs in the clients' processes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from benchmarks.api.http_connection import HttpConnection
from benchmarks.api.objects import AGENTS, Kind, encoded, stored
from benchmarks.timing import Call

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PAGE = 500
FIELD_MANAGER = "benchmark"


@dataclass(slots=True)
class Ground:
    """What the requests of one process meet.

    Attributes:
        objects: how many are stored of each kind all the time.
        prefix: of the names of what this process creates; nobody else uses them.
        made: by kind, names of what it has created and not deleted yet.
    """

    objects: int
    prefix: str
    made: dict[str, list[str]] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=itertools.count)


Make = Callable[[HttpConnection, Kind, Ground], Call]


def _version(client: HttpConnection, _: Kind, __: Ground) -> Call:
    return lambda: client.send("GET", "/version")


def _any(kind: Kind, ground: Ground) -> str:
    number = random.randrange(ground.objects)
    return f"{kind.path}/{f'fleet-echo-{number}' if kind is AGENTS else stored(number)}"


def _get(client: HttpConnection, kind: Kind, ground: Ground) -> Call:
    return lambda: client.send("GET", _any(kind, ground))


def _create(client: HttpConnection, kind: Kind, ground: Ground) -> Call:
    async def create() -> None:
        name = f"{ground.prefix}-{next(ground.numbers)}"
        await client.send("POST", kind.path, body=encoded(kind.manifest(name)))
        ground.made.setdefault(kind.plural, []).append(name)

    return create


def _delete(client: HttpConnection, kind: Kind, ground: Ground) -> Call:
    return lambda: client.send("DELETE", f"{kind.path}/{ground.made[kind.plural].pop()}")


def _merge_patch(client: HttpConnection, kind: Kind, ground: Ground) -> Call:
    def patch() -> Awaitable[bytes]:
        change = {"metadata": {"annotations": {"touched": str(random.random())}}}
        return client.send("PATCH", _any(kind, ground), body=encoded(change), sent="application/merge-patch+json")

    return patch


def _apply(client: HttpConnection, kind: Kind, ground: Ground) -> Call:
    def apply() -> Awaitable[bytes]:
        name = stored(random.randrange(ground.objects))
        return client.send(
            "PATCH",
            f"{kind.path}/{name}?fieldManager={FIELD_MANAGER}&force=true",
            body=encoded(kind.manifest(name, {"applied": str(random.random())})),
            sent="application/apply-patch+yaml",
        )

    return apply


def _pages(accept: str) -> Make:
    return lambda client, kind, _: _Pages(client, kind, accept).next


def _everything(client: HttpConnection, kind: Kind, _: Ground) -> Call:
    return lambda: client.send("GET", kind.path)


class _Pages:
    """One client that lists everything page by page, over and over."""

    def __init__(self, client: HttpConnection, kind: Kind, accept: str) -> None:
        self._client, self._kind, self._accept = client, kind, accept
        self._token = ""

    async def next(self) -> None:
        query = {"limit": str(PAGE), "continue": self._token} if self._token else {"limit": str(PAGE)}
        content = await self._client.send("GET", f"{self._kind.path}?{urlencode(query)}", accept=self._accept)
        # The metadata stands first or last; decoding 500 objects to find it would be timed as the server's work.
        found = [part for part in (content[:1000], content[-1000:]) if b'"continue":"' in part]
        self._token = found[0].partition(b'"continue":"')[2].partition(b'"')[0].decode() if found else ""


OPERATIONS: dict[str, Make] = {
    "GET /version (floor)": _version,
    "get": _get,
    f"list {PAGE}": _pages("application/json"),
    f"list {PAGE} as Table": _pages(TABLE),
    "list all": _everything,
    "create": _create,
    "merge-patch": _merge_patch,
    "server-side apply": _apply,
    "delete": _delete,
}
"""What is deleted must have been created before, by as many requests of the same process."""
