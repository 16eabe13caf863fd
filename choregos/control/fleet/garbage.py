"""Removes what belongs to something that is gone: ownerReferences as Kubernetes means them.

Owns three rules, for every declarative kind: an object none of whose owners exists is deleted (background deletion);
an owner deleted in the foreground waits until its dependents are gone; one deleted as an orphan's parent lets its
dependents go first. Invariant: an object is deleted only when each owner's uid is known to be gone from a complete
cache, never because a name is missing. It does not empty clusters and sets: their own reconcilers do.

A key's name is `<resource>/<name>`, because dependents and owners are of every kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import FencedObjects
from choregos.control.owners import Owners
from choregos.resources import meta
from choregos.resources.kind import Kind, Object, ReadOnlyObject


def garbage_key(resource: str, obj: ReadOnlyObject) -> Key:
    return Key(obj["metadata"].get("namespace", ""), f"{resource}/{obj['metadata']['name']}")


class GarbageReconciler:
    """Judges one object per key.

    Args:
        kinds: the declarative ones.
    """

    name = "garbage"

    def __init__(self, objects: FencedObjects, owners: Owners, kinds: Sequence[Kind]) -> None:
        self._objects = objects
        self._owners = owners
        self._resources = [kind.plural for kind in kinds]
        self._resource_of = {kind.kind: kind.plural for kind in kinds}

    def keys(self) -> Iterable[Key]:
        for resource in self._resources:
            for obj in self._objects.list(resource):
                if obj["metadata"].get("ownerReferences") or meta.is_deleting(obj):
                    yield garbage_key(resource, obj)

    async def reconcile(self, key: Key) -> Result:
        resource, _, name = key.name.partition("/")
        obj = self._objects.find(resource, key.namespace, name)
        if obj is None:
            return DONE
        if meta.is_deleting(obj):
            await self._finish(resource, obj)
        else:
            await self._collect(resource, obj)
        return DONE

    def owners(self, obj: ReadOnlyObject) -> Iterator[Key]:
        """Keys of those it refers to, whether they exist or not."""
        for reference in obj["metadata"].get("ownerReferences") or ():
            resource = self._resource_of.get(reference["kind"])
            if resource is not None:
                yield Key(obj["metadata"].get("namespace", ""), f"{resource}/{reference['name']}")

    async def _collect(self, resource: str, obj: Object) -> None:
        references = obj["metadata"].get("ownerReferences") or []
        alive = [reference for reference in references if self._exists(obj, reference)]
        if references and not alive:
            await self._objects.delete(resource, obj)
        elif len(alive) < len(references):
            await self._set_owners(resource, obj, alive)

    async def _finish(self, resource: str, owner: Object) -> None:
        if meta.has_finalizer(owner, meta.ORPHAN_FINALIZER):
            uid = owner["metadata"]["uid"]
            for kind, dependent in list(self._owners.dependents(owner)):
                references = dependent["metadata"]["ownerReferences"]
                rest = [reference for reference in references if reference["uid"] != uid]
                await self._set_owners(kind, dependent, rest)
            await self._objects.release(resource, owner, meta.ORPHAN_FINALIZER)
        elif meta.has_finalizer(owner, meta.FOREGROUND_FINALIZER):
            left = list(self._owners.dependents(owner))
            for kind, dependent in left:
                if not meta.is_deleting(dependent):
                    await self._objects.delete(kind, dependent)
            if not left:
                await self._objects.release(resource, owner, meta.FOREGROUND_FINALIZER)
        elif not owner["metadata"].get("finalizers"):
            await self._objects.delete(resource, owner)  # its last finalizer was taken away by a plain update

    async def _set_owners(self, resource: str, obj: Object, owners: list[Mapping[str, Any]]) -> None:
        metadata = {key: value for key, value in obj["metadata"].items() if key != "ownerReferences"}
        if owners:
            metadata["ownerReferences"] = owners
        await self._objects.update(resource, obj, {**obj, "metadata": metadata})

    def _exists(self, obj: ReadOnlyObject, reference: Mapping[str, Any]) -> bool:
        resource = self._resource_of.get(reference["kind"])
        if resource is None:
            return True  # an owner of a kind we do not store: not ours to judge
        namespace = obj["metadata"].get("namespace", "")
        owner = self._objects.find(resource, namespace, reference["name"]) or self._objects.find(
            resource, "", reference["name"]
        )
        return owner is not None and owner["metadata"]["uid"] == reference["uid"]
