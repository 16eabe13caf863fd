"""Whatever people do within a quota, the fleet never makes more of it than was admitted."""

from __future__ import annotations

import asyncio
from typing import Any

from control_world import World, agent_set, cluster, controllers, memory_world
from hypothesis import example, given, settings
from hypothesis import strategies as st

from choregos.foundation.errors import AlreadyExists, Conflict
from choregos.resources import meta
from choregos.resources.quotas.admission import admission
from choregos.resources.quotas.ledger import Ledger
from choregos.resources.quotas.usage import declared
from choregos.resources.registry import by_resource
from choregos.resources.validation import validate

Object = dict[str, Any]
LIMIT = 10
CLUSTERS, SETS, QUOTAS = "agentclusters", "agentsets", "resourcequotas"


class People:
    """Write as an API server would let them."""

    def __init__(self, world: World) -> None:
        self.world = world

    def objects(self, resource: str) -> list[Object]:
        return [*self.world.resources.list(resource, "default").items]

    async def store(self, resource: str, obj: Object) -> None:
        """Creates or updates it, if the quota admits it."""
        store = self.world.resources
        verdict = admission(self.objects(QUOTAS), resource, obj, Ledger(self.objects))
        if verdict.excesses:
            return
        also = [(QUOTAS, quota) for quota in verdict.quotas]
        try:
            if "resourceVersion" in obj["metadata"]:
                await store.update(resource, obj, also=also)
            else:
                await store.create(resource, obj, also=also)
        except (Conflict, AlreadyExists):
            return  # somebody was faster; people would try again

    async def make(self, resource: str, wanted: Object) -> None:
        kind = by_resource(resource)
        assert kind is not None
        found = self.world.get(resource, wanted["metadata"]["name"])
        if found is not None:
            await self.store(resource, meta.changed(found, {**found, "spec": {**found["spec"], **wanted["spec"]}}))
            return
        metadata = {"namespace": "default", **wanted["metadata"]}
        if resource == CLUSTERS:
            metadata["finalizers"] = [meta.AGENTS_FINALIZER]
        stamped = meta.created({**wanted, "metadata": metadata}, self.world.ids.uid(), self.world.clock.wall_ms())
        await self.store(resource, validate(kind, stamped).object)

    async def forge(self, name: str, how: tuple[str, bool, int]) -> None:
        """A set that says of itself who owns it."""
        owner, names_cluster, replicas = how
        found = self.world.get(CLUSTERS, "a") or {"metadata": {"uid": "uid-of-none"}}
        gone, real = (
            {"apiVersion": meta.API_VERSION, "kind": "AgentCluster", "name": "a", "uid": uid, "controller": True}
            for uid in ("uid-of-gone", found["metadata"]["uid"])
        )
        wanted = agent_set(name, replicas, **({"cluster": "a"} if names_cluster else {}))
        wanted["metadata"]["ownerReferences"] = {
            "real": [real],
            "gone": [gone],
            "two": [gone, real],
            "two, real first": [real, gone],
            "no controller": [{**real, "controller": False}],
            "other kind": [{**real, "kind": "Wheel"}],
            "other name": [{**real, "name": "b"}],
        }[owner]
        await self.make(SETS, wanted)

    async def scale(self, name: str, replicas: int) -> None:
        found = self.world.get(SETS, name)
        if found is not None:
            await self.store(SETS, meta.changed(found, {**found, "spec": {**found["spec"], "replicas": replicas}}))

    async def let_go(self, name: str) -> None:
        found = self.world.get(SETS, name)
        if found is not None:
            await self.store(SETS, {**found, "metadata": {**found["metadata"], "ownerReferences": []}})

    async def delete(self, resource: str, name: str, finalizer: str = "") -> None:
        if self.world.get(resource, name) is not None:
            await self.world.delete(resource, name, finalizer)


# Few of each, so that steps meet: one cluster that fits, and what would not fit beside it.
names, templates, counts = st.just("a"), st.sampled_from(["x", "y"]), st.sampled_from([1, 3, 7])
sets = st.sampled_from(["a-x", "a-x", "a-y", "own"])
owners = st.sampled_from(["real", "gone", "two", "two, real first", "no controller", "other kind", "other name"])
steps = st.one_of(
    st.tuples(st.just("cluster"), names, st.dictionaries(templates, counts, min_size=1)),
    st.tuples(st.just("set"), sets, counts),
    st.tuples(st.just("forge"), st.sampled_from(["own", "a-x", "a-x-us"]), st.tuples(owners, st.booleans(), counts)),
    st.tuples(st.just("scale"), st.one_of(sets, st.just("a-x-us")), counts),
    st.tuples(st.just("let go"), sets, st.none()),
    st.tuples(st.just("delete set"), sets, st.none()),
    st.tuples(st.just("delete"), names, st.sampled_from(["", "orphan"])),
)


SCALED_AND_DELETED = [
    ("cluster", "a", {"x": 7}),
    ("scale", "a-x", 1),
    ("set", "own", 7),
    ("delete set", "a-x", None),
    ("let go", "a-x", None),
    ("delete", "a", "orphan"),
]

SCALED_UP = [("cluster", "a", {"x": 1}), ("scale", "a-x", 7), ("set", "own", 7), ("cluster", "a", {"x": 3})]

FORGED = [("cluster", "a", {"x": 7}), ("forge", "own", ("real", False, 3)), ("scale", "own", 7)]
FORGED_SHARE = [("cluster", "a", {"x": 3}), ("delete set", "a-x", None), ("forge", "a-x", ("real", False, 7))]


async def act(people: People, step: tuple[str, str, Any]) -> None:
    what, name, how = step
    if what == "cluster":
        await people.make(CLUSTERS, cluster(name, **how))
    elif what == "set":
        await people.make(SETS, agent_set(name, how))
    elif what == "forge":
        await people.forge(name, how)
    elif what == "scale":
        await people.scale(name, how)
    elif what == "let go":
        await people.let_go(name)
    elif what == "delete set":
        await people.delete(SETS, name)
    else:
        await people.delete(CLUSTERS, name, how)


def wanted(world: World) -> int:
    """The agents that regions would run."""
    return sum(each["spec"]["replicas"] for each in world.list(SETS) if not meta.is_deleting(each))


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(steps, st.sampled_from([0.0, 0.3])), min_size=5, max_size=16))
@example(steps=[(step, 5.0) for step in FORGED])
@example(steps=[(step, 5.0) for step in FORGED_SHARE])
@example(steps=[(step, 0.3) for step in SCALED_UP[:3]])
@example(steps=[(step, 0.3) for step in SCALED_UP])
@example(steps=[(step, 0.3) for step in SCALED_AND_DELETED])
@example(steps=[(step, 0.0) for step in SCALED_AND_DELETED])
def test_what_the_fleet_makes_of_what_was_admitted_is_within_the_quota(steps: Any) -> None:
    async def run() -> None:
        async with memory_world() as world, controllers(world):
            people = People(world)
            await world.create(QUOTAS, {"metadata": {"name": "bound"}, "spec": {"hard": {"agents": str(LIMIT)}}})
            await world.until(lambda: world.list(QUOTAS)[0]["status"].get("used"), "the fleet is led")
            for step, pause_s in steps:
                await act(people, step)
                assert declared(people.objects)["agents"] <= LIMIT * 1000, step
                await world.pass_time(pause_s)
                assert declared(people.objects)["agents"] <= LIMIT * 1000, "a controller has raised it"
            await world.pass_time(120.0)
            counted = declared(people.objects)["agents"] // 1000
            assert wanted(world) <= counted <= LIMIT
            status = world.list(QUOTAS)[0]["status"]
            assert status == {"hard": {"agents": str(LIMIT)}, "used": {"agents": str(counted)}}

    asyncio.run(run())
