"""The declarative plane as a leader writes it: every write carries the fence of its term.

Owns the small steps that all reconcilers share: create with the server's stamps, update with the generation kept
right, deletion that waits for finalizers. Invariant: after the term is over nothing is written. Reads come from the
store's cache and may be behind; compare-and-set makes that harmless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from choregos.foundation.clock import Clock
from choregos.foundation.errors import NotFound
from choregos.foundation.ids import IdSource
from choregos.resources import meta
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.store.port import Fence
from choregos.store.resources import ResourceStore

CLUSTERS, SETS, NODES, NAMESPACES = "agentclusters", "agentsets", "agentnodes", "namespaces"
ACCOUNTS, QUOTAS = "serviceaccounts", "resourcequotas"
"""Resources that controllers drive."""


class FencedObjects:
    """Reads and fenced writes of declarative objects. All writes raise `Conflict`, `Deposed` and `Temporary`."""

    def __init__(self, store: ResourceStore, fence: Fence, clock: Clock, ids: IdSource) -> None:
        self._store = store
        self._fence = fence
        self._clock = clock
        self._ids = ids

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object, or None if there is none; `namespace` is empty for cluster-scoped resources."""
        try:
            return self._store.get(resource, namespace, name)
        except NotFound:
            return None

    def list(self, resource: str, namespace: str = "") -> Sequence[Object]:
        """Ordered by namespace and name; an empty namespace means all."""
        return self._store.list(resource, namespace).items

    async def create(self, resource: str, obj: ReadOnlyObject) -> Object:
        """Stores a new object with uid, creation time and generation 1.

        Raises:
            AlreadyExists: the name is taken.
        """
        stamped = meta.created(obj, self._ids.uid(), self._clock.wall_ms())
        return await self._store.create(resource, stamped, fence=self._fence)

    async def update(self, resource: str, previous: ReadOnlyObject, obj: ReadOnlyObject) -> Object:
        """Stores `obj`, made from `previous`; a change of the spec raises the generation, no change writes nothing."""
        return await self._store.update(resource, meta.changed(previous, obj), fence=self._fence)

    async def write_status(self, resource: str, obj: ReadOnlyObject, status: Mapping[str, Any]) -> Object:
        """Stores `obj` with this status; nothing if it has it already."""
        return await self._store.update(resource, {**obj, "status": dict(status)}, fence=self._fence)

    async def delete(self, resource: str, obj: ReadOnlyObject) -> None:
        """Begins the deletion of an object, or ends it if nothing holds it. Repeating it does no harm."""
        if not obj["metadata"].get("finalizers"):
            await self._store.delete(resource, dict(obj), fence=self._fence)
        elif not meta.is_deleting(obj):
            await self._store.mark(resource, meta.deleting(obj, self._clock.wall_ms()), fence=self._fence)

    async def release(self, resource: str, obj: ReadOnlyObject, finalizer: str) -> None:
        """Takes a finalizer away; if it was the last one of an object being deleted, the object goes."""
        released = meta.without_finalizer(obj, finalizer)
        if meta.is_deleting(released) and not released["metadata"].get("finalizers"):
            await self._store.delete(resource, released, fence=self._fence)
        else:
            await self._store.update(resource, released, fence=self._fence)
