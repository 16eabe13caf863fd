"""Puts the default roles and bindings into the store when an API server starts; what they are is `security`'s.

Invariant: any number of servers may do this at once; what one has written the others find. The fleet's controllers keep
them right afterwards.
"""

from __future__ import annotations

from choregos.foundation.clock import Clock
from choregos.foundation.errors import AlreadyExists, Conflict, NotFound
from choregos.foundation.ids import IdSource
from choregos.resources import meta
from choregos.resources.kind import Object
from choregos.security.default_roles import ROLES, aggregated, defaults, repaired
from choregos.store.resources import ResourceStore


async def ensure_default_roles(resources: ResourceStore, clock: Clock, ids: IdSource) -> None:
    """Raises: Temporary, the store cannot be reached."""
    for resource, default in defaults():
        wanted = aggregated(default, resources.list(ROLES).items) if resource == ROLES else default
        try:
            found = resources.get(resource, "", wanted["metadata"]["name"])
        except NotFound:
            await _create(resources, resource, meta.created(wanted, ids.uid(), clock.wall_ms()))
            continue
        right = repaired(found, wanted)
        if right is not found:
            await _update(resources, resource, meta.changed(found, right))


async def _create(resources: ResourceStore, resource: str, obj: Object) -> None:
    try:
        await resources.create(resource, obj)
    except AlreadyExists:
        return


async def _update(resources: ResourceStore, resource: str, obj: Object) -> None:
    try:
        await resources.update(resource, obj)
    except (Conflict, NotFound):
        return  # somebody else is at it; the fleet's controller looks again
