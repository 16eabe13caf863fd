"""Who belongs to whom: after every history of changes the same as a scan of everything."""

from __future__ import annotations

from typing import Any

from control_world import World, memory_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from choregos.control.objects import FencedObjects
from choregos.control.owners import Owners
from choregos.store.port import Fence

RESOURCES = ("agentsets", "agentnodes")
NAMESPACES = {"agentsets": ("a", "b"), "agentnodes": ("",)}

places = st.sampled_from(
    [(resource, where, name) for resource in RESOURCES for where in NAMESPACES[resource] for name in "xy"]
)
histories = st.lists(st.tuples(places, st.none() | st.sets(st.sampled_from(["u1", "u2"]))), max_size=20)


async def write(world: World, place: tuple[str, str, str], owners: set[str] | None) -> None:
    """Stores the object with these owners; None removes it."""
    resource, where, name = place
    found = [
        obj
        for obj in world.list(resource)
        if (obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) == place[1:]
    ]
    if owners is None:
        for obj in found:
            await world.resources.delete(resource, obj)
        return
    metadata: dict[str, Any] = {"name": name, "ownerReferences": [{"uid": uid} for uid in sorted(owners)]}
    if where:
        metadata["namespace"] = where
    if found:
        metadata["resourceVersion"] = found[0]["metadata"]["resourceVersion"]
        await world.resources.update(resource, {"metadata": metadata})
    else:
        await world.resources.create(resource, {"metadata": metadata})


def scanned(world: World, uid: str, namespace: str) -> list[tuple[str, Any]]:
    return [
        (resource, obj)
        for resource in sorted(RESOURCES)
        for obj in world.list(resource)
        if uid in {reference["uid"] for reference in obj["metadata"]["ownerReferences"]}
        and namespace in ("", obj["metadata"].get("namespace", ""))
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(before=histories, after=histories)
async def test_dependents_are_those_that_a_scan_finds(before: list[Any], after: list[Any]) -> None:
    async with memory_world() as world:
        for place, owners in before:
            await write(world, place, owners)
        objects = FencedObjects(world.resources, Fence("f", "e", 1), world.clock, world.ids)
        index = Owners(objects, RESOURCES)
        index.load()
        world.resources.on_change(lambda changes: [index.observe(change) for change in changes])
        for place, owners in after:
            await write(world, place, owners)
        for uid in ("u1", "u2"):
            for namespace in ("", "a", "b"):
                owner = {"metadata": {"uid": uid, "namespace": namespace}}
                assert list(index.dependents(owner)) == scanned(world, uid, namespace)
