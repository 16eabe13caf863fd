"""Watches that do not end: they reconnect, and list again when the server no longer knows where they were (410).

Invariant: whoever follows the events from the first one always ends up with the server's objects. After a gap the
difference is told as events, so nothing is missed for good; states in between may be.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from choregos.client.connection import JSON, SILENCE_S_MAX, Connection, Query
from choregos.client.statuses import error_of_status
from choregos.foundation.backoff import RECONNECT
from choregos.foundation.clock import Clock
from choregos.foundation.errors import DeadlineExceeded, Expired, Temporary

PAGE_ITEMS = 500

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change.

    Attributes:
        type: `ADDED`, `MODIFIED`, `DELETED`.
        object: as it is now, or as it was when it was deleted. A one-row Table if tables were asked for.
    """

    type: str
    object: Object


@dataclass(frozen=True, slots=True)
class Listing:
    """What a collection held at one revision.

    Attributes:
        document: the list's first page: its kind, its columns if it is a Table.
        items: the objects of all pages; one-row Tables if tables were asked for.
        revision: resourceVersion to watch from.
    """

    document: Object
    items: list[Object]
    revision: str


async def list_all(connection: Connection, path: str, query: Query, *, accept: str = JSON) -> Listing:
    """A whole collection, read in pages."""
    items: list[Object] = []
    first: Object = {}
    token = ""
    while True:
        page_query = {**query, "limit": str(PAGE_ITEMS)} | ({"continue": token} if token else {})
        try:
            page = await connection.request("GET", path, query=page_query, accept=accept)
        except Expired:
            if not token:
                raise
            # The pages so far are of a revision that is gone: begin again, for a picture of one moment.
            items, first, token = [], {}, ""
            continue
        first = first or page
        items.extend(_items(page))
        token = page["metadata"].get("continue") or ""
        if not token:
            return Listing(first, items, str(page["metadata"].get("resourceVersion") or ""))


class Watch:
    """One endless watch of a collection.

    Args:
        after: what the follower knows already; None: list first, and tell every object as ADDED.
        accept: `application/json`, or the media type of Tables.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        query: Query,
        clock: Clock,
        *,
        after: Listing | None = None,
        accept: str = JSON,
    ) -> None:
        self._connection = connection
        self._path = path
        self._query = query
        self._clock = clock
        self._accept = accept
        self._revision = after.revision if after else None
        # What the follower holds now, so that a gap can be told as a difference.
        self._known: dict[str, Object] = {_uid(item): item for item in after.items} if after else {}

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """The changes, for ever.

        Raises:
            ChoregosError: the first request fails; or a later one does for a reason that does not pass.
        """
        failures = 0
        begun = False
        while True:
            try:
                if self._revision is None:
                    for event in await self._relist():
                        yield event
                begun = True
                async with contextlib.aclosing(self._follow()) as events:
                    async for event in events:
                        failures = 0
                        yield event
                failures = 0
            except Expired:
                self._revision = None
            except (Temporary, DeadlineExceeded):
                if not begun:
                    raise
                failures += 1
                await self._clock.sleep(RECONNECT.delay_s(failures, random.random()))

    async def _relist(self) -> list[WatchEvent]:
        listing = await list_all(self._connection, self._path, self._query, accept=self._accept)
        self._revision = listing.revision
        fresh = {_uid(item): item for item in listing.items}
        events = list(difference(self._known, fresh))
        self._known = fresh
        return events

    async def _follow(self) -> AsyncGenerator[WatchEvent, None]:
        """One connection's worth of events."""
        query = {
            **self._query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._revision or "",
        }
        lines = self._connection.lines(self._path, query, accept=self._accept, silence_s_max=SILENCE_S_MAX)
        async with contextlib.aclosing(lines):
            async for line in lines:
                event = self._note(msgspec.json.decode(line))
                if event is not None:
                    yield event

    def _note(self, line: Mapping[str, Any]) -> WatchEvent | None:
        """Takes one line of a watch in; None for a bookmark."""
        kind, changed = line["type"], line["object"]
        if kind == "ERROR":
            raise error_of_status(changed)
        self._revision = _metadata(changed).get("resourceVersion") or self._revision
        if kind == "BOOKMARK":
            return None
        if kind == "DELETED":
            self._known.pop(_uid(changed), None)
        else:
            self._known[_uid(changed)] = changed
        return WatchEvent(kind, changed)


def difference(before: Mapping[str, Object], after: Mapping[str, Object]) -> Iterable[WatchEvent]:
    """What happened between two pictures of a collection, by uid."""
    for uid, gone in before.items():
        if uid not in after:
            yield WatchEvent("DELETED", gone)
    for uid, item in after.items():
        known = before.get(uid)
        if known is None:
            yield WatchEvent("ADDED", item)
        elif _metadata(known).get("resourceVersion") != _metadata(item).get("resourceVersion"):
            yield WatchEvent("MODIFIED", item)


def _items(page: Object) -> list[Object]:
    if page.get("kind") == "Table":
        return [{**page, "rows": [row]} for row in page.get("rows") or ()]
    # Members of a list come without these, as they all have the same.
    common = {"apiVersion": page.get("apiVersion", ""), "kind": str(page.get("kind", "")).removesuffix("List")}
    return [{**common, **item} for item in page.get("items") or ()]


def _metadata(item: Object) -> Mapping[str, Any]:
    """Of an object, or of the object of a one-row Table; a bookmark of Tables has it at the top."""
    rows = item.get("rows")
    found = rows[0]["object"]["metadata"] if rows else item.get("metadata")
    return found or {}


def _uid(item: Object) -> str:
    metadata = _metadata(item)
    return str(metadata.get("uid") or f"{metadata.get('namespace', '')}/{metadata.get('name', '')}")
