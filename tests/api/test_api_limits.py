"""What one client may ask of the server, and that it does not keep the others waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from api_world import ADMIN, GROUP, Client, Reply, World, node

from choregos.api.context import ApiLimits
from choregos.api.server import build_app
from choregos.api.sharing.fairness import Fairness, FairnessLimits
from choregos.api.sharing.light_work import LightWork
from choregos.api.sources import StoredSource
from choregos.resources.selectors import Requirement

NODES = f"{GROUP}/agentnodes"
THREE_SEATS = FairnessLimits(seats=3, waiting_per_flow=5, wait_s=20)


def certificate(name: str) -> Any:
    return {"subject": ((("commonName", name),), (("organizationName", "system:masters"),))}


@asynccontextmanager
async def limited(world: World, **limits: Any) -> AsyncIterator[Client]:
    """A client of a server with these limits."""
    app = build_app(replace(world.context, limits=ApiLimits(**limits)))
    yield Client(app, certificate("ada"))
    await app.close()


class SlowStore:
    """Holds back whatever is to be created."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = 0
        self._let: asyncio.Queue[None] = asyncio.Queue()
        self._create = world.context.resources.create
        self._names = count()
        monkeypatch.setattr(world.context.resources, "create", self._created)

    async def _created(self, *what: Any, **how: Any) -> Any:
        self.waiting += 1
        await self._let.get()
        return await self._create(*what, **how)

    async def request(self, client: Client) -> Reply:
        """A creation of another object each time."""
        return await client.post(NODES, node(f"slow-{next(self._names)}"))

    def let(self, number: int = 1) -> None:
        for _ in range(number):
            self._let.put_nowait(None)


class Reader:
    """Watches nodes from their state on, and reads only so many parts of it until `reads`."""

    def __init__(self, parts: int = 0) -> None:
        self._parts = parts
        self.reads = asyncio.Event()
        self.waits = False
        self.lines = 0
        self.newest = b""

    async def watch(self, client: Client) -> None:
        scope = client._scope("GET", NODES, {"watch": "true"}, {})
        await client._app(scope, asyncio.Event().wait, self._send)

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            return
        self.lines += message["body"].count(b"\n")
        self.newest = message["body"] or self.newest
        if not self._parts:
            self.waits = True
            await self.reads.wait()
        else:
            self._parts -= 1


class Turns:
    """Counts the calls of a method between two turns of somebody else.

    Attributes:
        most: of them so far.
    """

    def __init__(self, owner: type, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = self._calls = 0
        original = getattr(owner, method)

        def counted(*arguments: Any) -> Any:
            self._calls += 1
            return original(*arguments)

        monkeypatch.setattr(owner, method, counted)

    async def of_others(self) -> None:
        while True:
            self.most, self._calls = max(self.most, self._calls), 0
            await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def turn() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def stop(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_flood_of_one_user_does_not_keep_another_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with limited(world, fairness=THREE_SEATS) as ada:
        store = SlowStore(world, monkeypatch)
        flood = [asyncio.ensure_future(store.request(ada)) for _ in range(7)]
        await turn()
        assert store.waiting == 2, "one seat is left for others"
        refused = await store.request(ada)
        assert (refused.code, refused.json["reason"], refused.header("retry-after")) == (429, "TooManyRequests", ["1"])
        bob = asyncio.ensure_future(store.request(ada.as_(certificate("bob"))))
        await turn()
        assert store.waiting == 3, "bob is seated at once"
        store.let(3)
        await turn()
        assert sum(each.done() for each in flood) <= 2
        assert bob.done()
        assert (await bob).code == 201
        store.let(10)
        assert {reply.code for reply in await asyncio.gather(*flood)} == {201}


async def test_a_client_that_goes_away_gives_its_seat_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with limited(world, fairness=THREE_SEATS) as ada:
        store = SlowStore(world, monkeypatch)
        waiting = [asyncio.ensure_future(store.request(ada)) for _ in range(6)]
        await turn()
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        store.let(10)
        assert (await store.request(ada)).code == 201


async def test_a_watch_holds_its_seats_until_it_has_shown_the_state(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("choregos.api.handlers.reading.ENCODED_AT_ONCE", 2)
    monkeypatch.setattr("choregos.api.server.OBJECTS_PER_SEAT", 2)
    for number in range(5):
        await world.client.post(NODES, node(f"n{number}"))
    async with limited(world, fairness=FairnessLimits(12)) as ada:
        free: list[int] = []

        async def send(message: Mapping[str, Any]) -> None:
            if message.get("body"):
                free.append(ada._app._fairness._free)

        scope = ada._scope("GET", NODES, {"watch": "true"}, {})
        watch = asyncio.ensure_future(ada._app(scope, asyncio.Event().wait, send))
        await until(lambda: len(free) == 3)
        await turn()
        assert free == [9, 9, 9]
        assert ada._app._fairness._free == 12
        await stop(watch)


@pytest.mark.parametrize("parts", [0, 1])
async def test_a_watch_whose_client_does_not_read_gives_its_seats_back(
    world: World, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    monkeypatch.setattr("choregos.api.handlers.reading.ENCODED_AT_ONCE", 2)
    async with limited(world, fairness=FairnessLimits(1, wait_s=20)) as ada:
        for number in range(9):
            await world.client.post(NODES, node(f"n{number}"))
        readers = [Reader(parts) for _ in range(5)]
        watches = [asyncio.ensure_future(reader.watch(ada)) for reader in readers]
        await until(lambda: all(reader.waits for reader in readers))
        assert (await ada.get(f"{NODES}/n1")).code == 200
        readers[0].reads.set()
        await until(lambda: readers[0].lines == 9)
        await stop(*watches)
        assert ada._app._fairness._free == 1
        assert not ada._app._fairness._flows


@pytest.mark.parametrize("parts", [0, 2])
async def test_a_watch_whose_client_reads_again_waits_for_a_seat(
    world: World, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    monkeypatch.setattr("choregos.api.handlers.reading.ENCODED_AT_ONCE", 2)
    async with limited(world, fairness=FairnessLimits(1, wait_s=20)) as ada:
        for number in range(9):
            await world.client.post(NODES, node(f"n{number}"))
        reader, fairness = Reader(parts), ada._app._fairness
        watch = asyncio.ensure_future(reader.watch(ada))
        await until(lambda: reader.waits)
        async with fairness.seat("bob"):
            reader.reads.set()
            await turn()
            assert reader.lines == 2 * parts + 2
        await until(lambda: reader.lines == 9)
        assert fairness._free == 1
        await stop(watch)


async def test_a_watch_that_is_given_no_seat_again_ends_with_an_error_event(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("choregos.api.handlers.reading.ENCODED_AT_ONCE", 2)
    async with limited(world, fairness=FairnessLimits(1, waiting_per_flow=0)) as ada:
        for number in range(3):
            await world.client.post(NODES, node(f"n{number}"))
        reader = Reader()
        watch = asyncio.ensure_future(reader.watch(ada))
        await until(lambda: reader.waits and ada._app._fairness._free == 1)
        async with ada._app._fairness.seat("bob"):
            reader.reads.set()
            async with asyncio.timeout(10):
                await asyncio.wait([watch])
        error = json.loads(reader.newest)
        assert (reader.lines, error["type"], error["object"]["code"]) == (3, "ERROR", 429)
        await stop(watch)


@pytest.mark.parametrize("query", [{}, {"watch": "true"}])
async def test_who_waits_for_what_has_not_come_yet_holds_no_seat(world: World, query: dict[str, str]) -> None:
    limits = ApiLimits(fairness=FairnessLimits(seats=1), future_revision_s=60)
    app = build_app(replace(world.context, limits=limits))
    client = Client(app, ADMIN)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(client.get(NODES, resourceVersion="999999999", **query))
        for _ in range(5):
            assert (await client.get(NODES)).code == 200
        assert not waiting.done()
        waiting.cancel()
    await app.close()


async def test_a_list_takes_seats_for_what_there_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("choregos.api.server.OBJECTS_PER_SEAT", 2)
    await world.start_agents(5)
    for number in range(5):
        await world.client.post(NODES, node(f"n{number}", even=str(number % 2)))
    widths: list[int] = []
    taken = Fairness.seat

    def seat(self: Fairness, flow: str, width: int = 1) -> Any:
        widths.append(width)
        return taken(self, flow, width)

    monkeypatch.setattr(Fairness, "seat", seat)
    everywhere, here = "/api/v1/pods", "/api/v1/namespaces/default/pods"
    asked: list[tuple[str, dict[str, str], int]] = [
        (NODES, {}, 3),
        (NODES, {"limit": "1"}, 1),
        (NODES, {"limit": "4"}, 2),
        (NODES, {"limit": "99"}, 3),
        (NODES, {"limit": "1", "labelSelector": "even=0"}, 3),
        (f"{NODES}/n1", {}, 1),
        (everywhere, {}, 3),
        (here, {}, 3),
        ("/api/v1/namespaces/other/pods", {}, 1),
        (f"{GROUP}/namespaces/default/agentsets", {}, 1),
    ]
    for path, query, width in asked:
        widths.clear()
        assert (await world.client.get(path, **query)).code == 200
        assert widths == [width], (path, query)
    for watch, width in [({}, 3), ({"resourceVersion": "0"}, 3), ({"resourceVersion": "1"}, 1)]:
        widths.clear()
        async with world.client.stream(NODES, watch="true", **watch):
            assert widths == [width], watch


async def test_so_many_watches_and_no_more(world: World) -> None:
    async with limited(world, streams_max=2) as ada:
        async with ada.stream(NODES, watch="true") as _, ada.stream(NODES, watch="true") as _:
            refused = await ada.get(NODES, watch="true")
            assert refused.code == 429
            assert "2 streams open" in refused.json["message"]
            async with ada.as_(certificate("bob")).stream(NODES, watch="true") as other:
                assert other.code == 200
        async with ada.stream(NODES, watch="true") as again:
            assert again.code == 200


async def test_a_list_that_is_too_long_has_to_be_asked_for_in_chunks(world: World) -> None:
    for number in range(4):
        assert (await world.client.post(NODES, node(f"n{number}", even=str(number % 2)))).code == 201
    async with limited(world, list_items_max=3) as ada:
        refused = await ada.get(NODES)
        assert refused.code == 413
        assert "more than 3 agentnodes" in refused.json["message"]
        assert "limit=500" in refused.json["message"]
        assert len((await ada.get(NODES, limit="3")).json["items"]) == 3
        assert len((await ada.get(NODES, labelSelector="even=0")).json["items"]) == 2


async def test_a_watch_shows_any_number_for_it_does_so_in_parts(world: World) -> None:
    for number in range(4):
        assert (await world.client.post(NODES, node(f"n{number}"))).code == 201
    async with limited(world, list_items_max=3) as ada, ada.stream(NODES, watch="true") as stream:
        names = [(await stream.line())["object"]["metadata"]["name"] for _ in range(4)]
        assert names == ["n0", "n1", "n2", "n3"]


async def test_a_long_list_is_made_in_parts_and_is_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("choregos.api.handlers.reading.ENCODED_AT_ONCE", 2)
    names = [f"n{number:02}" for number in range(21)]
    for name in names:
        await world.client.post(NODES, node(name))
    turns: list[int] = []

    async def count() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    for accept in ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"):
        turns.clear()
        reply = (await world.client.get(NODES, accept=accept)).json
        listed = reply.get("items") or [row["object"] for row in reply["rows"]]
        assert [one["metadata"]["name"] for one in listed] == names
        assert len(turns) >= 10, "others had a turn between two parts"
    counting.cancel()


@pytest.mark.parametrize("shown", ["list", "state", "changes"])
@pytest.mark.parametrize(("objects", "length", "at_once"), [(200, 0, 50), (9, 40_000, 2), (5, 70_000, 1)])
async def test_little_is_made_between_two_turns_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch, shown: str, objects: int, length: int, at_once: int
) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    since = (await world.client.get(path)).json["metadata"]["resourceVersion"]
    for number in range(objects):
        await world.client.post(path, {"metadata": {"name": f"n{number}"}, "data": {"a": "x" * length}})
    turns = Turns(StoredSource, "document", monkeypatch)
    running = asyncio.ensure_future(turns.of_others())
    if shown == "list":
        assert len((await world.client.get(path)).json["items"]) == objects
    else:
        query = {"resourceVersion": since} if shown == "changes" else {}
        async with world.client.stream(path, watch="true", **query) as stream:
            for _ in range(objects):
                await stream.raw_line()
    await turn()
    running.cancel()
    assert 0 < turns.most <= at_once


@pytest.mark.parametrize("watch", [False, True])
async def test_lists_and_the_state_of_watches_share_the_time_of_light_work(
    world: World, monkeypatch: pytest.MonkeyPatch, watch: bool
) -> None:
    for number in range(120):
        await world.client.post(NODES, node(f"n{number}"))
    do, pieces = LightWork.do, 0

    async def counted(self: LightWork, flow: str, work: Callable[[], Any]) -> Any:
        nonlocal pieces
        pieces += 1
        return await do(self, flow, work)

    monkeypatch.setattr(LightWork, "do", counted)
    selector = ",".join(f"!a{number}" for number in range(50))  # 20 objects at once
    if watch:
        async with world.client.stream(NODES, watch="true", labelSelector=selector) as stream:
            for _ in range(120):
                await stream.raw_line()
    else:
        assert len((await world.client.get(NODES, labelSelector=selector)).json["items"]) == 120
    assert pieces == 6 + 3


@pytest.mark.parametrize("query", [{}, {"limit": "1"}, {"watch": "true"}])
async def test_little_is_asked_of_a_selector_between_two_turns_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]
) -> None:
    for number in range(60):
        await world.client.post(NODES, node(f"n{number}"))
    turns = Turns(Requirement, "matches", monkeypatch)
    running = asyncio.ensure_future(turns.of_others())
    # All but the last is true of all: what matches nothing has to look through everything.
    selector = ",".join(f"!a{number}" for number in range(49)) + ",b"
    if "watch" in query:
        async with world.client.stream(NODES, labelSelector=selector, **query):
            await until(lambda: turns.most > 0)
            await turn()
    else:
        assert not (await world.client.get(NODES, labelSelector=selector, **query)).json["items"]
    await turn()
    running.cancel()
    assert 0 < turns.most <= 1_000


async def test_what_is_looked_through_is_one_moment_and_a_watch_goes_on_from_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("choregos.api.handlers.reading.ASKED_AT_ONCE", 1)
    for number in range(9):
        await world.client.post(NODES, node(f"n{number}", a="b"))
    matches, asked = Requirement.matches, asyncio.Event()

    def noticed(self: Requirement, labels: Any) -> bool:
        asked.set()
        return matches(self, labels)

    monkeypatch.setattr(Requirement, "matches", noticed)

    async def change(number: int) -> None:
        await asked.wait()
        await world.client.delete(f"{NODES}/n{number}")
        await world.client.post(NODES, node(f"z{number}", a="b"))

    there = {f"n{number}" for number in range(9)}
    changing = asyncio.ensure_future(change(8))
    async with world.client.stream(NODES, watch="true", labelSelector="a=b") as stream:
        seen = [await stream.line() for _ in range(11)]
    await changing
    assert {each["object"]["metadata"]["name"] for each in seen[:9]} == there
    assert [(each["type"], each["object"]["metadata"]["name"]) for each in seen[9:]] == [
        ("DELETED", "n8"),
        ("ADDED", "z8"),
    ]
    asked.clear()
    listed, _ = await asyncio.gather(world.client.get(NODES, labelSelector="a=b"), change(7))
    assert {each["metadata"]["name"] for each in listed.json["items"]} == there - {"n8"} | {"z8"}


async def test_an_object_may_not_grow_beyond_the_limit_and_may_always_be_deleted(world: World) -> None:
    held = node("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    assert (await world.client.post(NODES, held)).code == 201
    larger = {"metadata": {"annotations": {"a": "b" * 1_000}}}
    async with limited(world, object_bytes_max=200) as client:
        refused = await client.post(NODES, node("new"))
        assert (refused.code, "an object may have 200 bytes" in refused.json["message"]) == (413, True)
        assert (await client.patch(f"{NODES}/held", larger)).code == 413
        assert "deletionTimestamp" in (await client.delete(f"{NODES}/held")).json["metadata"]
        assert (await client.patch(f"{NODES}/held", larger)).code == 413
        assert (await client.patch(f"{NODES}/held", {"metadata": {"finalizers": None}})).code == 200
        assert (await client.get(f"{NODES}/held")).code == 404


async def test_an_object_that_a_quota_counts_has_the_same_limit(world: World) -> None:
    core = "/api/v1/namespaces/default"
    quota = {"metadata": {"name": "bound"}, "spec": {"hard": {"configmaps": "5"}}}
    assert (await world.client.post(f"{core}/resourcequotas", quota)).code == 201
    async with limited(world, object_bytes_max=1_000) as client:
        large = {"metadata": {"name": "large"}, "data": {"x": "y" * 1_000}}
        refused = await client.post(f"{core}/configmaps", large)
        assert (refused.code, "an object may have 1,000 bytes" in refused.json["message"]) == (413, True)
        assert (await client.post(f"{core}/configmaps", {"metadata": {"name": "small"}})).code == 201
