"""Writes under a quota that are under way together are stored together, and each is answered as if it were alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from api_world import ADMIN, GROUP, Client, Reply, World, open_world
from hypothesis import given, settings
from hypothesis import strategies as st

from choregos.api.server import build_app
from choregos.api.sharing.light_work import LightWork
from choregos.foundation.bus.connection import connect
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Temporary
from choregos.resources.quotas.usage import declared
from choregos.store.backends.jetstream import JetStreamLog
from choregos.store.backends.memory import MemoryLog
from choregos.store.port import RecordLog, Write
from choregos.store.resources import ResourceStore
from choregos.testing.nats_server import NatsServer
from choregos.wire.subjects import RESOURCES_STREAM, RESOURCES_SUBJECTS, object_subject

SETS, CLUSTERS = f"{GROUP}/namespaces/default/agentsets", f"{GROUP}/namespaces/default/agentclusters"
CORE = "/api/v1/namespaces/default"
QUOTA = f"{CORE}/resourcequotas/bound"


async def bound(client: Client, **hard: Any) -> None:
    reply = await client.post(f"{CORE}/resourcequotas", {"metadata": {"name": "bound"}, "spec": {"hard": hard}})
    assert reply.code == 201


def agent_set(name: str, replicas: int) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"replicas": replicas, "template": {"name": "w"}}}


async def create(client: Client, *wishes: int, prefix: str = "s") -> list[Reply]:
    """A set of so many agents each, all at once."""
    return await asyncio.gather(
        *(client.post(SETS, agent_set(f"{prefix}{number}", wish)) for number, wish in enumerate(wishes))
    )


def codes(replies: Sequence[Reply]) -> list[int]:
    return [reply.code for reply in replies]


def names(world: World) -> list[str]:
    return [each["metadata"]["name"] for each in world.context.resources.list("agentsets", "default").items]


class Batches:
    """What the log is given as batches, and what happens before each."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.before: Callable[[int], Any] | None = None
        log: RecordLog = world.context.resources._log
        append_batch = log.append_batch

        async def counted(writes: Sequence[Write], **options: Any) -> Any:
            self.sizes.append(len(writes))
            if self.before is not None:
                await self.before(len(self.sizes))
            return await append_batch(writes, **options)

        monkeypatch.setattr(log, "append_batch", counted)


@pytest.fixture
def batches(world: World, monkeypatch: pytest.MonkeyPatch) -> Batches:
    return Batches(world, monkeypatch)


@pytest.fixture(autouse=True)
def all_in_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked at once comes to the groups at once; else it would come bit by bit (`sharing.light_work`)."""

    async def at_once(_: LightWork, flow: str, work: Callable[[], Any]) -> Any:
        return work()

    monkeypatch.setattr(LightWork, "do", at_once)


# One group


async def test_those_who_come_together_are_stored_together(world: World, batches: Batches) -> None:
    await bound(world.client, agents=100, configmaps=100)
    replies = await create(world.client, *range(1, 9))
    assert codes(replies) == [201] * 8
    assert batches.sizes == [9], "eight sets and their quota"
    for number, reply in enumerate(replies):
        metadata = reply.json["metadata"]
        assert metadata["name"] == f"s{number}"
        found = world.context.resources.get("agentsets", "default", f"s{number}")
        assert metadata["resourceVersion"] == found["metadata"]["resourceVersion"]
    assert (await world.client.get(QUOTA)).json["status"]["used"] == {"agents": "36", "configmaps": "0"}


async def test_one_that_exceeds_is_refused_for_itself_alone(world: World, batches: Batches) -> None:
    await bound(world.client, agents=10)
    assert codes(await create(world.client, 3, 3, 5, 3, 2, 1, 0)) == [201, 201, 403, 201, 403, 201, 201]
    assert len(batches.sizes) == 1
    assert names(world) == ["s0", "s1", "s3", "s5", "s6"]


async def test_each_is_judged_with_what_goes_before_it(world: World) -> None:
    """What makes room makes it for those after it; and none is stored on the strength of one that is not."""
    client = world.client
    await bound(client, agents=10)
    await create(client, 10)
    replies = await asyncio.gather(
        client.patch(f"{SETS}/s0", {"spec": {"replicas": 4}}), client.post(SETS, agent_set("new", 6))
    )
    assert codes(replies) == [200, 201]
    stale = (await client.get(f"{SETS}/s0")).json
    await client.patch(f"{SETS}/s0", {"metadata": {"labels": {"a": "b"}}})
    replies = await asyncio.gather(
        client.put(f"{SETS}/s0", {**stale, "spec": {**stale["spec"], "replicas": 1}}),
        client.post(SETS, agent_set("more", 3)),
    )
    assert codes(replies) == [409, 403]


async def test_names_that_exist_or_were_used_before(world: World, batches: Batches) -> None:
    await bound(world.client, agents=100)
    await create(world.client, 1, 1)
    await world.client.delete(f"{SETS}/s1")
    batches.sizes.clear()
    assert codes(await create(world.client, 1, 1, 1, 1)) == [409, 201, 201, 201]
    assert batches.sizes == [4, 4], "once more, over the tombstone"


async def test_writes_of_one_object_follow_each_other(world: World) -> None:
    client = world.client
    await bound(client, agents=50)
    await create(client, 1)
    replies = await asyncio.gather(
        *(client.patch(f"{SETS}/s0", {"spec": {"replicas": number}}) for number in range(2, 32)),
        *(client.post(SETS, agent_set("one", 1)) for _ in range(5)),
    )
    assert codes(replies[:30]) == [200] * 30, "nobody named a version, so each is made again until it is stored"
    assert sorted(codes(replies[30:])) == [201, 409, 409, 409, 409]


async def test_one_that_is_too_large_is_refused_for_itself_alone(world: World) -> None:
    await bound(world.client, configmaps=10)
    replies = await asyncio.gather(
        *(
            world.client.post(f"{CORE}/configmaps", {"metadata": {"name": f"m{size}"}, "data": {"a": "x" * size}})
            for size in (1, 1_000_500, 2, 1_048_500, 3)
        )
    )
    assert codes(replies) == [201, 201, 201, 413, 201]


# Conflicts


async def test_a_group_that_others_were_faster_than_is_judged_anew(world: World, batches: Batches) -> None:
    store = world.context.resources
    await bound(world.client, agents=10)

    async def others(number: int) -> None:
        if number == 1:
            found = store.get("resourcequotas", "default", "bound")
            await store.update("resourcequotas", {**found, "spec": {"hard": {"agents": "5"}}})

    batches.before = others
    assert codes(await create(world.client, 3, 3, 2)) == [201, 403, 201]
    assert batches.sizes == [4, 3]


async def test_a_conflict_that_nothing_explains_fails_none_but_its_own(world: World, batches: Batches) -> None:
    """A record that cannot be read is not there for this server, and in the way of whoever wants its name."""
    await bound(world.client, agents=10)
    log: RecordLog = world.context.resources._log
    await log.append(Write(object_subject("agentsets", "default", "s1"), b"?"))
    assert codes(await create(world.client, 1, 1, 1)) == [201, 409, 201]
    assert names(world) == ["s0", "s2"]


async def test_a_failure_that_nobody_foresaw_fails_none_but_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bound(world.client, agents=10)
    store_create = ResourceStore.create

    async def create_(self: ResourceStore, resource: str, obj: Any, **options: Any) -> Any:
        if obj["metadata"]["name"] == "s1":
            raise ValueError("a defect")
        return await store_create(self, resource, obj, **options)

    async def together(*_: Any) -> Any:
        raise ValueError("a defect")

    monkeypatch.setattr(ResourceStore, "create", create_)
    monkeypatch.setattr(ResourceStore, "write_together", together)
    assert codes(await create(world.client, 1, 1, 1)) == [201, 500, 201]


# Those who go, and stores that do


async def test_who_goes_away_takes_nobody_with_him(world: World, batches: Batches) -> None:
    client = world.client
    await bound(client, agents=100)
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(_: int) -> None:
        begun.set()
        await goes_on.wait()

    batches.before = slow
    first = [asyncio.ensure_future(client.post(SETS, agent_set(name, 1))) for name in ("a", "b")]
    await begun.wait()
    second = [asyncio.ensure_future(client.post(SETS, agent_set(name, 1))) for name in ("c", "d", "e")]
    groups = world.app._quotas._groups
    while len(groups._waiting["default"]) < 3:
        await asyncio.sleep(0)
    for gone in (first[0], second[1]):
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    goes_on.set()
    assert codes(await asyncio.gather(first[1], second[0], second[2])) == [201] * 3
    assert names(world) == ["a", "b", "c", "e"], "what was on its way was stored, what still waited was not"
    assert not groups._waiting


async def test_a_server_that_ends_leaves_nobody_waiting(world: World, batches: Batches) -> None:
    await bound(world.client, agents=100)
    begun = asyncio.Event()

    async def for_ever(_: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    batches.before = for_ever
    first = asyncio.ensure_future(create(world.client, 1, 1))
    await begun.wait()
    second = asyncio.ensure_future(create(world.client, 1, prefix="t"))
    while not world.app._quotas._groups._waiting["default"]:
        await asyncio.sleep(0)
    await world.app.close()
    assert codes([*await first, *await second]) == [503] * 3


async def test_a_store_that_cannot_be_reached_is_told_to_all(world: World, batches: Batches) -> None:
    await bound(world.client, agents=100)

    async def away(_: int) -> None:
        raise Temporary("there is no connection to nats-server")

    batches.before = away
    assert codes(await create(world.client, 1, 1, 1)) == [503] * 3
    assert batches.sizes == [4], "nobody tries on his own"


@pytest.mark.real
async def test_a_store_that_is_killed_is_told_to_all(world: World, own_nats_server: NatsServer) -> None:
    async with connect(own_nats_server.address, "tests") as bus, JetStreamLog(bus, RESOURCES_STREAM) as log:
        await log.provision(RESOURCES_SUBJECTS)
        async with servers(world, log, 1) as (client,):
            await bound(client, agents=10_000)
            under_way = [asyncio.ensure_future(create(client, *[1] * 20, prefix=f"s{each}-")) for each in range(10)]
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            own_nats_server.kill()
            found = {code for replies in await asyncio.gather(*under_way) for code in codes(replies)}
            assert found <= {201, 503}
            own_nats_server.start()


# Several servers


@asynccontextmanager
async def servers(first: World, log: RecordLog, count: int) -> AsyncIterator[list[Client]]:
    """So many servers over one log, each with a store of its own; there is a namespace."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            store = await stack.enter_async_context(ResourceStore(log, SystemClock()))
            app = build_app(replace(first.context, resources=store))
            stack.push_async_callback(app.close)
            clients.append(Client(app, ADMIN))
        assert (await clients[0].post("/api/v1/namespaces", {"metadata": {"name": "default"}})).code == 201
        yield clients


LIMIT = 12
sizes = st.integers(0, 6)
steps = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 9), sizes),
    st.tuples(st.just("scale"), st.integers(0, 9), sizes),
    st.tuples(st.just("cluster"), st.integers(0, 3), sizes),
    st.tuples(st.just("declare"), st.integers(0, 3), sizes),
    st.tuples(st.just("delete"), st.integers(0, 9), sizes),
)


async def act(client: Client, step: tuple[str, int, int]) -> Reply:
    what, number, size = step
    spec = {"agents": [{"name": "x", "replicas": size}]}
    match what:
        case "set":
            return await client.post(SETS, agent_set(f"s{number}", size))
        case "scale":
            return await client.patch(f"{SETS}/s{number}", {"spec": {"replicas": size}})
        case "cluster":
            return await client.post(CLUSTERS, {"metadata": {"name": f"c{number}"}, "spec": spec})
        case "declare":
            return await client.patch(f"{CLUSTERS}/c{number}", {"spec": spec})
    return await client.delete(f"{SETS}/s{number}")


async def live(clients: Sequence[Client], log: RecordLog, rounds: Sequence[Sequence[tuple[str, int, int]]]) -> None:
    await bound(clients[0], agents=LIMIT)
    highest = [0]
    async with ResourceStore(log, SystemClock()) as witness:

        def look(_: object) -> None:
            highest.append(declared(lambda resource: witness.list(resource, "default").items)["agents"] // 1000)

        witness.on_change(look)
        for together in rounds:
            replies = await asyncio.gather(
                *(act(clients[number % len(clients)], step) for number, step in enumerate(together))
            )
            assert {*codes(replies)} <= {200, 201, 403, 404, 409}, [reply.json for reply in replies]
        await witness.catch_up()
        assert max(highest) <= LIMIT


@settings(max_examples=40, deadline=None)
@given(rounds=st.lists(st.lists(steps, min_size=1, max_size=12), min_size=1, max_size=5), count=st.integers(1, 3))
def test_whatever_many_do_at_the_same_time_it_stays_within_the_quota(rounds: Any, count: int) -> None:
    async def run() -> None:
        async with open_world() as world:
            log = MemoryLog(SystemClock())
            async with servers(world, log, count) as clients:
                await live(clients, log, rounds)

    asyncio.run(run())


@pytest.mark.real
async def test_the_same_on_nats(world: World, own_nats_server: NatsServer) -> None:
    kinds = ("set", "scale", "cluster", "declare", "set", "delete")
    rounds = [[(kinds[(turn + n) % 6], (turn * n) % 10, n % 7) for n in range(24)] for turn in range(8)]
    async with connect(own_nats_server.address, "tests") as bus, JetStreamLog(bus, RESOURCES_STREAM) as log:
        await log.provision(RESOURCES_SUBJECTS)
        async with servers(world, log, 2) as clients:
            await live(clients, log, rounds)
