"""The two ways to apply a manifest: the client computes the patch and leaves a copy of it, or the server does all.

Invariant of the first: nobody has changed what the patch was computed from, or it is computed anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from choregos.client.connection import Connection
from choregos.client.merge import apply_patch, with_last_applied
from choregos.client.watching import Object
from choregos.foundation.errors import AlreadyExists, Conflict, NotFound

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

ATTEMPTS_MAX = 5


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did: `created`, `configured` or `unchanged`; and the object as it is now."""

    outcome: str
    object: Object


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is, or will be: paths of its collection and of itself."""

    connection: Connection
    collection: str
    path: str

    async def live(self) -> Object | None:
        try:
            found: Object = await self.connection.request("GET", self.path)
        except NotFound:
            return None
        return found


async def client_side(place: Place, manifest: Object, query: Mapping[str, str]) -> Applied:
    """
    Args:
        query: of the writing request.

    Raises:
        Invalid, Conflict
    """
    for _ in range(ATTEMPTS_MAX):
        # Both races, with a deletion and with a creation, end by looking again.
        with contextlib.suppress(NotFound, AlreadyExists, Conflict):
            return await _apply_once(place, manifest, query)
    return await _apply_once(place, manifest, query)


async def _apply_once(place: Place, manifest: Object, query: Mapping[str, str]) -> Applied:
    live = await place.live()
    if live is None:
        body = with_last_applied(manifest)
        return Applied("created", await place.connection.request("POST", place.collection, query=query, body=body))
    patch = apply_patch(live, manifest)
    if not patch:
        return Applied("unchanged", live)
    # Nobody may have changed what the patch was computed from.
    patch.setdefault("metadata", {})["resourceVersion"] = live["metadata"]["resourceVersion"]
    return await _patched(place, live, patch, query, MERGE_PATCH)


async def server_side(place: Place, manifest: Object, query: Mapping[str, str], *, force: bool) -> Applied:
    """
    Args:
        query: of the writing request.
        force: take over fields that others own.

    Raises:
        Invalid
        Conflict: others own what it would change.
    """
    options = {**query, "force": "true"} if force else query
    return await _patched(place, await place.live(), manifest, options, APPLY_PATCH)


async def _patched(
    place: Place, live: Object | None, patch: Object, query: Mapping[str, str], content_type: str
) -> Applied:
    now = await place.connection.request("PATCH", place.path, query=query, body=patch, content_type=content_type)
    if live is None:
        return Applied("created", now)
    same = now["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
    return Applied("unchanged" if same and "dryRun" not in query else "configured", now)
