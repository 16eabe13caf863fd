"""Keeps the default roles and bindings right, and fills ClusterRoles that are made of others.

Owns `rules` of a ClusterRole that has an aggregationRule, and what the defaults have of the default objects; what those
are and what is missing of one decides `security.default_roles`. Invariant: nothing that somebody added to a default is
taken away. A key's name is `<resource>/<name>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import FencedObjects
from choregos.foundation.errors import AlreadyExists
from choregos.resources import meta
from choregos.resources.kind import Object
from choregos.security.default_roles import ROLES, aggregated, defaults, repaired
from choregos.store.resources import Change


class RoleReconciler:
    """Drives one ClusterRole or ClusterRoleBinding per key."""

    name = "clusterroles"

    def __init__(self, objects: FencedObjects) -> None:
        self._objects = objects
        self._defaults = {_key(resource, wanted): wanted for resource, wanted in defaults()}

    def keys(self) -> Iterable[Key]:
        yield from self._defaults
        yield from self._made_of_others()

    def concerned(self, change: Change) -> Iterator[Key]:
        """The keys to look at again after a change."""
        key = _key(change.resource, change.object)
        if key in self._defaults:
            yield key
        if change.resource == ROLES:
            yield from self._made_of_others()

    async def reconcile(self, key: Key) -> Result:
        resource, _, name = key.name.partition("/")
        existing, wanted = self._objects.find(resource, "", name), self._defaults.get(key)
        if existing is None:
            if wanted is not None:
                await self._create(resource, self._complete(resource, wanted))
        elif not meta.is_deleting(existing):
            right = existing if wanted is None else repaired(existing, wanted)
            await self._objects.update(resource, existing, self._complete(resource, right))
        return DONE

    async def _create(self, resource: str, obj: Object) -> None:
        try:
            await self._objects.create(resource, obj)
        except AlreadyExists:
            return  # an API server that has just started was faster

    def _complete(self, resource: str, obj: Object) -> Object:
        return aggregated(obj, self._objects.list(ROLES)) if resource == ROLES else obj

    def _made_of_others(self) -> Iterator[Key]:
        for role in self._objects.list(ROLES):
            if role.get("aggregationRule"):
                yield _key(ROLES, role)


def _key(resource: str, obj: Object) -> Key:
    return Key("", f"{resource}/{obj['metadata']['name']}")
