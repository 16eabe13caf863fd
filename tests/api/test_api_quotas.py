"""What would exceed a quota is refused when it is written, whichever way it is written, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from api_world import ADMIN, GROUP, Client, Reply, World, cluster, open_world
from hypothesis import example, given, settings
from hypothesis import strategies as st

from choregos.api import quota_groups, quotas
from choregos.api.server import build_app
from choregos.foundation.bus.connection import connect
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Temporary
from choregos.store.backends.jetstream import JetStreamLog
from choregos.store.port import RecordLog
from choregos.store.resources import ResourceStore
from choregos.testing.nats_server import NatsServer
from choregos.wire.subjects import RESOURCES_STREAM, RESOURCES_SUBJECTS

CLUSTERS = f"{GROUP}/namespaces/default/agentclusters"
SETS = f"{GROUP}/namespaces/default/agentsets"
CORE = "/api/v1/namespaces/default"
QUOTAS = f"{CORE}/resourcequotas"
BODY = {"replicas": 1, "template": {"name": "w", "resources": {"cpu": "1"}}}


def quota(name: str = "bound", **hard: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}}


def agent_set(name: str, replicas: int) -> dict[str, Any]:
    spec = {**BODY, "replicas": replicas}
    return {"apiVersion": "choregos.dev/v1", "kind": "AgentSet", "metadata": {"name": name}, "spec": spec}


def fleet(replicas: int, name: str = "support") -> dict[str, Any]:
    return cluster(name, spec={"agents": [{"name": "chat", "replicas": replicas}]})


async def used(client: Client, name: str = "bound") -> dict[str, str]:
    """As the quota's status says."""
    status: dict[str, dict[str, str]] = (await client.get(f"{QUOTAS}/{name}")).json["status"]
    return status.get("used", {})


def refused(reply: Reply, *said: str) -> None:
    assert (reply.code, reply.json["reason"]) == (403, "Forbidden"), reply.json
    for words in said:
        assert words in reply.json["message"]


def stored(*replies: Reply) -> None:
    assert {reply.code for reply in replies} <= {200, 201}, [reply.json for reply in replies]


# Every way to write


async def test_a_creation_that_exceeds_is_refused_in_the_words_of_kubernetes(client: Client) -> None:
    stored(await client.post(QUOTAS, quota(agents=10, cpu="4")))
    stored(await client.post(SETS, agent_set("a", 3)))
    assert await used(client) == {"agents": "3", "cpu": "3"}
    reply = await client.post(CLUSTERS, fleet(8))
    said = "exceeded quota: bound, requested: agents=8, used: agents=3, limited: agents=10"
    refused(reply, f'agentclusters.choregos.dev "support" is forbidden: {said}')
    cause = {"reason": "FieldValueForbidden", "message": said, "field": "spec.agents"}
    assert reply.json["details"]["causes"] == [cause]
    refused(await client.post(SETS, agent_set("b", 2)), 'agentsets.choregos.dev "b" is forbidden', "cpu=2, used: cpu=3")
    stored(await client.post(SETS, agent_set("b", 1)))
    assert await used(client) == {"agents": "4", "cpu": "4"}


Write = Callable[[Client, int], Awaitable[Reply]]


def _operation(n: int) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": "/spec/replicas", "value": n}]


def _merge(n: int) -> dict[str, Any]:
    return {"spec": {"replicas": n}}


def _scale(n: int) -> dict[str, Any]:
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "work"}, "spec": {"replicas": n}}


WAYS: dict[str, Write] = {
    "put": lambda client, n: client.put(f"{SETS}/work", agent_set("work", n)),
    "merge": lambda client, n: client.patch(f"{SETS}/work", _merge(n)),
    "strategic": lambda client, n: client.patch(f"{SETS}/work", _merge(n), "strategic-merge-patch+json"),
    "json": lambda client, n: client.patch(f"{SETS}/work", _operation(n), "json-patch+json"),
    "apply": lambda client, n: client.patch(
        f"{SETS}/work", agent_set("work", n), "apply-patch+yaml", fieldManager="me", force="true"
    ),
    "scale": lambda client, n: client.put(f"{SETS}/work/scale", _scale(n)),
    "scale patched": lambda client, n: client.patch(f"{SETS}/work/scale", _merge(n)),
    "scale applied": lambda client, n: client.patch(
        f"{SETS}/work/scale", _scale(n), "apply-patch+yaml", fieldManager="me", force="true"
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_no_way_of_changing_leads_past_a_quota(client: Client, way: Write) -> None:
    stored(await client.post(SETS, agent_set("work", 2)))
    stored(await client.post(QUOTAS, quota(agents=4)))
    refused(await way(client, 5), "requested: agents=3, used: agents=2, limited: agents=4")
    assert (await client.get(f"{SETS}/work")).json["spec"]["replicas"] == 2
    stored(await way(client, 4))
    assert await used(client) == {"agents": "4"}
    refused(await way(client, 5), "requested: agents=1")
    stored(await way(client, 1), await way(client, 3))


async def test_a_dry_run_answers_as_the_write_would_and_uses_nothing(client: Client) -> None:
    stored(await client.post(QUOTAS, quota(agents=4)), await client.post(SETS, agent_set("work", 2)))
    refused(await client.post(SETS, agent_set("more", 3), dryRun="All"))
    refused(await client.patch(f"{SETS}/work", {"spec": {"replicas": 5}}, dryRun="All"))
    stored(await client.post(SETS, agent_set("more", 2), dryRun="All"))
    stored(await client.patch(f"{SETS}/work", {"spec": {"replicas": 4}}, dryRun="All"))
    assert await used(client) == {"agents": "2"}
    assert (await client.post(SETS, agent_set("work", 2), dryRun="All")).code == 409


async def test_applying_something_new_is_a_creation(client: Client) -> None:
    stored(await client.post(QUOTAS, quota(agents=4)))
    applied = {"kind": "apply-patch+yaml", "fieldManager": "me"}
    refused(await client.patch(f"{CLUSTERS}/support", fleet(5), **applied), "requested: agents=5, used: agents=0")
    stored(await client.patch(f"{CLUSTERS}/support", fleet(4), **applied))
    assert await used(client) == {"agents": "4"}


async def test_templates_may_change_places_within_a_quota(client: Client) -> None:
    stored(await client.post(QUOTAS, quota(agents=4)), await client.post(CLUSTERS, fleet(4)))
    other = {"spec": {"agents": [{"name": "talk", "replicas": 4}]}}
    stored(await client.patch(f"{CLUSTERS}/support", other))
    other["spec"]["agents"].append({"name": "chat", "replicas": 1})
    refused(await client.patch(f"{CLUSTERS}/support", other), "requested: agents=1, used: agents=4")


async def test_objects_are_counted_and_other_namespaces_are_not(client: Client) -> None:
    stored(await client.post("/api/v1/namespaces", {"metadata": {"name": "other"}}))
    stored(await client.post(QUOTAS, quota(configmaps=1, **{"count/agentsets.choregos.dev": 1, "agents": 5})))
    config = {"metadata": {"name": "one"}, "data": {"a": "b"}}
    stored(await client.post(f"{CORE}/configmaps", config))
    reply = await client.post(f"{CORE}/configmaps", {"metadata": {"name": "two"}})
    refused(reply, 'configmaps "two" is forbidden: exceeded quota: bound, requested: configmaps=1, used: configmaps=1')
    assert "causes" not in reply.json["details"]
    stored(await client.put(f"{CORE}/configmaps/one", {**config, "data": {"a": "c"}}))
    assert (await client.post(f"{CORE}/configmaps", config)).code == 409, "it exists, so nothing would be used"
    stored(await client.post(SETS, agent_set("one", 1)))
    refused(await client.post(SETS, agent_set("two", 9)), "agents=9,count/agentsets.choregos.dev=1")
    for number in range(3):
        stored(await client.post(f"{GROUP}/namespaces/other/agentsets", agent_set(f"s{number}", 90)))
    assert await used(client) == {"agents": "1", "configmaps": "1", "count/agentsets.choregos.dev": "1"}


async def test_several_quotas_all_hold(client: Client) -> None:
    stored(await client.post(QUOTAS, quota("a", agents=5)), await client.post(QUOTAS, quota("b", cpu=3)))
    refused(await client.post(SETS, agent_set("w", 6)), "exceeded quota: a, ", "; exceeded quota: b, ")
    refused(await client.post(SETS, agent_set("w", 4)), "is forbidden: exceeded quota: b, ")
    stored(await client.post(SETS, agent_set("w", 3)))
    assert (await used(client, "a"), await used(client, "b")) == ({"agents": "3"}, {"cpu": "3"})


async def test_a_quota_below_what_is_used_lets_nothing_grow_and_everything_shrink(client: Client) -> None:
    stored(await client.post(SETS, agent_set("work", 5)), await client.post(QUOTAS, quota(agents=9)))
    stored(await client.patch(f"{QUOTAS}/bound", {"spec": {"hard": {"agents": "2"}}}))
    refused(await client.patch(f"{SETS}/work/scale", {"spec": {"replicas": 6}}), "used: agents=5, limited: agents=2")
    stored(
        await client.patch(f"{SETS}/work", {"metadata": {"labels": {"a": "b"}}}),
        await client.patch(f"{SETS}/work/scale", {"spec": {"replicas": 4}}),
    )
    refused(await client.post(SETS, agent_set("tiny", 1)))
    stored(await client.post(SETS, agent_set("none", 0)), await client.delete(f"{SETS}/work"))
    stored(await client.post(SETS, agent_set("tiny", 2)))


async def test_a_set_of_a_cluster_cannot_be_scaled_past_a_quota(world: World) -> None:
    client = world.client
    stored(await client.post(QUOTAS, quota(agents=5)), await client.post(CLUSTERS, fleet(3)))
    owner = world.context.resources.get("agentclusters", "default", "support")
    reference = {"apiVersion": "choregos.dev/v1", "kind": "AgentCluster", "name": "support", "controller": True}
    made = agent_set("support-chat", 3)
    made["metadata"] |= {
        "ownerReferences": [{**reference, "uid": owner["metadata"]["uid"]}],
        "annotations": {"choregos.dev/declared-replicas": "3"},
    }
    stored(await client.post(SETS, made))
    assert await used(client) == {"agents": "3"}
    refused(await client.patch(f"{SETS}/support-chat/scale", {"spec": {"replicas": 6}}), "requested: agents=3")
    stored(await client.patch(f"{SETS}/support-chat/scale", {"spec": {"replicas": 5}}))
    refused(await client.post(SETS, agent_set("other", 1)), "used: agents=5")
    # Left to itself it is counted as before, and not twice.
    refused(await client.patch(f"{SETS}/support-chat", {"metadata": {"ownerReferences": None}}), "requested: agents=3")


async def test_quotas_of_a_namespace_are_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "QUOTAS_MAX", 2)
    stored(await client.post(QUOTAS, quota("a", agents=1)), await client.post(QUOTAS, quota("b", agents=1)))
    refused(await client.post(QUOTAS, quota("c", agents=1)), "a namespace has at most 2 quotas")
    stored(await client.put(f"{QUOTAS}/b", quota("b", agents=2)))


async def test_what_is_wrong_with_a_quota_is_told(client: Client) -> None:
    reply = await client.post(QUOTAS, quota(pods="1.5", wheels=4))
    assert reply.code == 422
    assert {cause["field"] for cause in reply.json["details"]["causes"]} == {"spec.hard.pods", "spec.hard.wheels"}
    assert (await client.post(QUOTAS, quota(agents=3))).code == 201
    refused(await client.post(SETS, agent_set("w", 4)))  # in force before any controller has seen it


async def test_who_waits_too_long_for_a_group_is_told_to_come_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, store = world.client, world.context.resources
    stored(await client.post(QUOTAS, quota(agents=3)))
    monkeypatch.setattr(quota_groups, "WAIT_S_MAX", 0.05)
    begun, goes_on = asyncio.Event(), asyncio.Event()
    create = ResourceStore.create

    async def slow(*arguments: Any, **options: Any) -> Any:
        begun.set()
        await goes_on.wait()
        return await create(*arguments, **options)

    monkeypatch.setattr(ResourceStore, "create", slow)
    first = asyncio.ensure_future(client.post(SETS, agent_set("a", 1)))
    await begun.wait()
    second = await client.post(SETS, agent_set("b", 1))
    assert (second.code, second.json["reason"]) == (503, "ServiceUnavailable")
    assert second.header("retry-after")
    goes_on.set()
    stored(await first)
    assert [each["metadata"]["name"] for each in store.list("agentsets").items] == ["a"]


async def test_a_namespace_without_a_quota_has_no_groups(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, seen = world.app._quotas._groups, []
    monkeypatch.setattr(groups, "_store_group", seen.append)
    stored(await world.client.post(SETS, agent_set("a", 1)))
    stored(await world.client.post(QUOTAS, quota(agents=3)))
    stored(await world.client.patch(f"{SETS}/a", {"metadata": {"labels": {"a": "b"}}}))
    stored(await world.client.post(f"{CORE}/configmaps", {"metadata": {"name": "free"}}))
    assert not seen, "nothing of this can use more of a quota"
    monkeypatch.undo()
    stored(await world.client.post(SETS, agent_set("b", 1)))
    assert not groups._waiting, "a line is forgotten when nobody is in it"


# Many writers at several servers


@asynccontextmanager
async def servers(first: World, log: RecordLog, count: int) -> AsyncIterator[list[Client]]:
    """So many servers over one log, each with a store of its own."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            store = await stack.enter_async_context(ResourceStore(log, SystemClock()))
            app = build_app(replace(first.context, resources=store))
            stack.push_async_callback(app.close)
            clients.append(Client(app, ADMIN))
        yield clients


async def compete(clients: list[Client], log: RecordLog, limit: int, wishes: list[int]) -> None:
    """Each wish is a set of so many agents, written at one of the servers, all at once."""
    stored(await clients[0].post("/api/v1/namespaces", {"metadata": {"name": "default"}}))
    stored(await clients[0].post(QUOTAS, quota(agents=limit)))
    highest: list[int] = []
    async with ResourceStore(log, SystemClock()) as witness:

        def look(_: object) -> None:
            highest.append(sum(each["spec"]["replicas"] for each in witness.list("agentsets", "default").items))

        witness.on_change(look)
        replies = await asyncio.gather(
            *(
                clients[number % len(clients)].post(SETS, agent_set(f"s{number}", wish))
                for number, wish in enumerate(wishes)
            )
        )
        await witness.catch_up()
        admitted = [wish for wish, reply in zip(wishes, replies, strict=True) if reply.code == 201]
        assert {reply.code for reply in replies} <= {201, 403}, [reply.json for reply in replies]
        assert max(highest, default=0) <= limit, "over the limit"
        assert sum(admitted) <= limit
        if sum(wishes) <= limit:
            assert len(admitted) == len(wishes), "refused although there was room for all"
        else:
            left = limit - sum(admitted)
            assert all(wish > left for wish, reply in zip(wishes, replies, strict=True) if reply.code == 403)
        assert await used(clients[0]) == ({"agents": str(sum(admitted))} if any(admitted) else {})


@settings(max_examples=25, deadline=None)
@given(
    limit=st.integers(0, 40),
    wishes=st.lists(st.integers(0, 6), max_size=20),
    count=st.integers(1, 3),
)
@example(limit=4, wishes=[0, 1, 2, 2, 0, 0, 0, 0, 1], count=3)
def test_however_many_write_none_gets_over_and_none_is_refused_without_need(
    limit: int, wishes: list[int], count: int
) -> None:
    async def run() -> None:
        async with open_world() as first:
            log = first.context.resources._log
            await first.context.resources.delete("namespaces", first.context.resources.get("namespaces", "", "default"))
            async with servers(first, log, count) as clients:
                await compete(clients, log, limit, wishes)

    asyncio.run(run())


@pytest.mark.real
@pytest.mark.parametrize(("limit", "count"), [(120, 2), (60, 3), (57, 2)])
async def test_the_same_on_nats(world: World, own_nats_server: NatsServer, limit: int, count: int) -> None:
    async with connect(own_nats_server.address, "tests") as bus, JetStreamLog(bus, RESOURCES_STREAM) as log:
        await log.provision(RESOURCES_SUBJECTS)
        async with servers(world, log, count) as clients:
            await compete(clients, log, limit, [number % 4 for number in range(80)])


async def test_a_status_that_lags_behind_does_not_let_two_in(world: World) -> None:
    """What was deleted still stands in the status, so both would write the same one."""
    client, log = world.client, world.context.resources._log
    stored(await client.post(QUOTAS, quota(agents=8)), await client.post(SETS, agent_set("old", 3)))
    stored(await client.post(SETS, agent_set("keep", 5)), await client.delete(f"{SETS}/old"))
    assert await used(client) == {"agents": "8"}
    async with servers(world, log, 2) as both:
        replies = await asyncio.gather(
            *(one.post(SETS, agent_set(f"new{number}", 3)) for number, one in enumerate(both))
        )
    assert sorted(reply.code for reply in replies) == [201, 403]


async def test_what_a_crash_left_of_a_batch_is_counted(world: World) -> None:
    """The object comes first; the status of the quota may never have been stored."""
    client, store = world.client, world.context.resources
    stored(await client.post(QUOTAS, quota(agents=4)), await client.post(SETS, agent_set("a", 1)))
    left = store.get("agentsets", "default", "a")
    await store.create("agentsets", {**left, "metadata": {**left["metadata"], "name": "b", "uid": "uid-of-b"}})
    assert await used(client) == {"agents": "1"}
    refused(await client.post(SETS, agent_set("c", 3)), "requested: agents=3, used: agents=2, limited: agents=4")
    stored(await client.post(SETS, agent_set("c", 2)))
    assert await used(client) == {"agents": "4"}


async def test_a_server_that_is_never_first_gives_up_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client, store = world.client, world.context.resources
    stored(await client.post(QUOTAS, quota(agents=8)))
    create, tries = ResourceStore.create, 0

    async def beaten(self: ResourceStore, resource: str, obj: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        bound = store.get("resourcequotas", "default", "bound")
        await store.update("resourcequotas", {**bound, "metadata": {**bound["metadata"], "labels": {"n": str(tries)}}})
        return await create(self, resource, obj, **options)

    monkeypatch.setattr(ResourceStore, "create", beaten)
    reply = await client.post(SETS, agent_set("w", 1))
    assert (reply.code, tries) == (503, world.context.limits.quota_attempts_max)
    assert Temporary.__name__ not in reply.json["message"]
