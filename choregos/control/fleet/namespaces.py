"""Empties a namespace that is being deleted, then lets it go.

Invariant: a namespace disappears only after everything declarative in it, agents included, because their sets hold
finalizers of their own. It does not create namespaces.
"""

from __future__ import annotations

from collections.abc import Iterable

from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import NAMESPACES, FencedObjects
from choregos.resources import meta
from choregos.resources.kind import Kind

LOOK_AGAIN_S = 0.2
"""How soon a namespace that still drains is looked at again: nothing tells which of its objects was the last."""


class NamespaceReconciler:
    """Drives one Namespace per key.

    Args:
        kinds: the declarative ones.
    """

    name = "namespaces"

    def __init__(self, objects: FencedObjects, kinds: Iterable[Kind]) -> None:
        self._objects = objects
        self._resources = [kind.plural for kind in kinds if kind.namespaced]

    def keys(self) -> Iterable[Key]:
        for namespace in self._objects.list(NAMESPACES):
            if meta.is_deleting(namespace):
                yield Key("", namespace["metadata"]["name"])

    async def reconcile(self, key: Key) -> Result:
        namespace = self._objects.find(NAMESPACES, "", key.name)
        if namespace is None or not meta.is_deleting(namespace):
            return DONE
        if (namespace.get("status") or {}).get("phase") != "Terminating":
            status = {**(namespace.get("status") or {}), "phase": "Terminating"}
            namespace = await self._objects.write_status(NAMESPACES, namespace, status)
        if await self._empty(key.name):
            if meta.has_finalizer(namespace, meta.NAMESPACE_FINALIZER):
                await self._objects.release(NAMESPACES, namespace, meta.NAMESPACE_FINALIZER)
            return DONE
        return Result(LOOK_AGAIN_S)

    async def _empty(self, namespace: str) -> bool:
        """Begins the deletion of everything in it; whether nothing is left."""
        left = 0
        for resource in self._resources:
            for obj in self._objects.list(resource, namespace):
                left += 1
                if not meta.is_deleting(obj):
                    await self._objects.delete(resource, obj)
        return left == 0
