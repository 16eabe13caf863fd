"""Who belongs to whom: the objects that refer to an owner, kept from the store's changes so that nobody scans for them.

Invariant: between `observe` of one batch of changes and the next, every object of the given resources is under each
uid that its ownerReferences name, and under no other. What it hands out is as the store has it now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from choregos.control.objects import FencedObjects
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.store.resources import Change
from choregos.store.watch import ChangeType

Place = tuple[str, str, str]
"""(resource, namespace, name); the namespace is empty for cluster-scoped ones."""


class Owners:
    """Empty until `load` has read what is there; from then on it has to be told of every change.

    Args:
        resources: those whose objects may be owned.
    """

    def __init__(self, objects: FencedObjects, resources: Iterable[str]) -> None:
        self._objects = objects
        self._resources = frozenset(resources)
        self._places: dict[str, set[Place]] = {}  # owner's uid → its dependents

    def load(self) -> None:
        for resource in self._resources:
            for obj in self._objects.list(resource):
                self._enter(resource, obj)

    def observe(self, change: Change) -> None:
        if change.resource not in self._resources:
            return
        if change.previous is not None:
            self._leave(change.resource, change.previous)
        if change.type is not ChangeType.DELETED:
            self._enter(change.resource, change.object)

    def dependents(self, owner: ReadOnlyObject) -> Iterator[tuple[str, Object]]:
        """(resource, object) of all that refer to it, in order; those of a cluster-scoped owner are everywhere."""
        namespace = owner["metadata"].get("namespace", "")
        for resource, where, name in sorted(self._places.get(owner["metadata"]["uid"], ())):
            if not namespace or where == namespace:
                obj = self._objects.find(resource, where, name)
                if obj is not None:
                    yield resource, obj

    def _enter(self, resource: str, obj: ReadOnlyObject) -> None:
        for uid in _owners(obj):
            self._places.setdefault(uid, set()).add(_place(resource, obj))

    def _leave(self, resource: str, obj: ReadOnlyObject) -> None:
        for uid in _owners(obj):
            places = self._places.get(uid, set())
            places.discard(_place(resource, obj))
            if not places:
                self._places.pop(uid, None)


def _owners(obj: ReadOnlyObject) -> Iterator[str]:
    return (reference["uid"] for reference in obj["metadata"].get("ownerReferences") or ())


def _place(resource: str, obj: ReadOnlyObject) -> Place:
    return resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
