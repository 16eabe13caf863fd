"""The ledger by which a server judges says what the objects of its store say, and is held no longer than needed."""

from __future__ import annotations

from typing import Any

from api_world import GROUP, World

from choregos.resources.quotas.names import DECLARED
from choregos.resources.quotas.usage import used
from choregos.resources.registry import COUNTED
from choregos.store.port import Batch, RecordLog

SETS, CLUSTERS = f"{GROUP}/namespaces/default/agentsets", f"{GROUP}/namespaces/default/agentclusters"
CORE = "/api/v1/namespaces/default"
NAMES = (*DECLARED, *COUNTED)


def quota(**hard: Any) -> dict[str, Any]:
    return {"metadata": {"name": "bound"}, "spec": {"hard": hard}}


def agent_set(name: str, replicas: int) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"replicas": replicas, "template": {"name": "w"}}}


def held(world: World) -> dict[str, Any]:
    return world.app._quotas._ledgers._held


def agrees(world: World) -> None:
    store = world.context.resources
    expected = used(NAMES, lambda resource: store.list(resource, "default").items)
    assert held(world)["default"].used(NAMES) == expected


async def test_it_follows_what_anybody_stores(world: World) -> None:
    client, store = world.client, world.context.resources
    await client.post(SETS, agent_set("before", 2))
    await client.post(f"{CORE}/resourcequotas", quota(agents=20))
    assert not held(world), "nobody has asked yet"
    assert (await client.post(SETS, agent_set("a", 3))).code == 201
    agrees(world)
    await client.post(CLUSTERS, {"metadata": {"name": "c"}, "spec": {"agents": [{"name": "x", "replicas": 4}]}})
    agrees(world)
    found = store.get("agentsets", "default", "a")
    await store.create("agentsets", {**found, "metadata": {**found["metadata"], "name": "b", "uid": "of-b"}})
    await store.delete("agentsets", store.get("agentsets", "default", "before"))
    await client.post(f"{CORE}/configmaps", {"metadata": {"name": "m"}})
    await client.delete(f"{CLUSTERS}/c")
    agrees(world)
    assert (await client.post(SETS, agent_set("much", 99))).code == 403
    assert (await client.post(SETS, agent_set("dry", 9), dryRun="All")).code == 201
    agrees(world)


async def test_it_is_given_up_with_the_last_quota(world: World) -> None:
    client = world.client
    await client.post(f"{CORE}/resourcequotas", quota(agents=20))
    await client.post(f"{CORE}/configmaps", {"metadata": {"name": "m"}})
    assert not held(world), "no quota bounds what was written"
    await client.post(f"{CORE}/resourcequotas", quota(agents=20) | {"metadata": {"name": "other"}})
    await client.post(SETS, agent_set("a", 3))
    await client.delete(f"{CORE}/resourcequotas/bound")
    agrees(world)
    await client.delete(f"{CORE}/resourcequotas/other")
    assert not held(world)


async def test_it_survives_a_log_that_was_replaced(world: World) -> None:
    client, store = world.client, world.context.resources
    await client.post(f"{CORE}/resourcequotas", quota(agents=20))
    await client.post(SETS, agent_set("a", 3))
    await client.post(SETS, agent_set("b", 4))
    log: RecordLog = store._log
    kept = [await log.last(f"o.{rest}") for rest in ("resourcequotas.default.bound", "agentsets.default.b")]
    records = [record for record in kept if record is not None]
    follower = store._follower
    follower._anew = []
    follower._take(Batch(records, True, max(record.sequence for record in records)))
    assert store.log_changes == 1
    assert [each["metadata"]["name"] for each in store.list("agentsets").items] == ["b"]
    agrees(world)


async def test_what_cannot_be_counted_harms_nothing_but_the_ledger(world: World) -> None:
    client, store = world.client, world.context.resources
    await client.post(f"{CORE}/resourcequotas", quota(agents=20))
    await client.post(SETS, agent_set("a", 3))
    await store.create("agentsets", {"metadata": {"name": "odd", "namespace": "default"}, "spec": {"replicas": "many"}})
    assert not held(world)
    await store.delete("agentsets", store.get("agentsets", "default", "odd"))
    assert (await client.post(SETS, agent_set("b", 3))).code == 201
    agrees(world)
