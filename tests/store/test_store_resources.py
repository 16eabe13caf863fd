"""Declarative objects: versions, conflicts, deletion, listing, watching, expiry."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from choregos.foundation.errors import AlreadyExists, Conflict, Deposed, Expired, NotFound, Temporary, TooLarge
from choregos.store import resources
from choregos.store.backends.memory import MemoryLog
from choregos.store.port import Write
from choregos.store.resources import OBJECT_BYTES_MAX, Change, ResourceStore
from choregos.store.watch import ChangeType
from choregos.testing.record_log_contract import new_epoch
from choregos.testing.sim_clock import SimClock

KIND = "agentclusters"


def thing(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": "choregos.dev/v1", "kind": "AgentCluster", "metadata": metadata, "spec": spec}


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
def log(clock: SimClock) -> MemoryLog:
    return MemoryLog(clock)


@pytest.fixture
async def store(log: MemoryLog, clock: SimClock) -> AsyncIterator[ResourceStore]:
    async with ResourceStore(log, clock) as store:
        yield store


async def test_a_created_object_has_the_sequence_as_its_version(store: ResourceStore, log: MemoryLog) -> None:
    created = await store.create(KIND, thing("one", replicas=1))
    record = await log.last("o.agentclusters.default.one")
    assert record is not None
    assert created["metadata"]["resourceVersion"] == str(record.sequence) == str(store.revision)
    assert b"resourceVersion" not in record.data
    assert store.get(KIND, "default", "one") == created


async def test_a_name_is_taken_until_its_object_is_deleted(store: ResourceStore) -> None:
    first = await store.create(KIND, thing("one"))
    with pytest.raises(AlreadyExists):
        await store.create(KIND, thing("one"))
    await store.delete(KIND, first)
    with pytest.raises(NotFound):
        store.get(KIND, "default", "one")
    again = await store.create(KIND, thing("one"))
    assert int(again["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])


async def test_a_stale_update_is_a_conflict(store: ResourceStore) -> None:
    first = await store.create(KIND, thing("one", replicas=1))
    second = await store.update(KIND, {**first, "spec": {"replicas": 2}})
    with pytest.raises(Conflict):
        await store.update(KIND, {**first, "spec": {"replicas": 3}})
    with pytest.raises(Conflict):
        await store.delete(KIND, first)
    with pytest.raises(Conflict):
        await store.update(KIND, thing("one", replicas=4))
    assert store.get(KIND, "default", "one") == second


async def test_two_replicas_cannot_both_win(log: MemoryLog, clock: SimClock) -> None:
    async with ResourceStore(log, clock) as left, ResourceStore(log, clock) as right:
        first = await left.create(KIND, thing("one"))
        await right.wait_for(int(first["metadata"]["resourceVersion"]))
        answers = await asyncio.gather(
            left.update(KIND, {**first, "spec": {"by": "left"}}),
            right.update(KIND, {**first, "spec": {"by": "right"}}),
            return_exceptions=True,
        )
        assert sorted(type(answer) for answer in answers if isinstance(answer, Exception)) == [Conflict]


async def test_an_update_that_changes_nothing_is_not_stored(store: ResourceStore) -> None:
    first = await store.create(KIND, thing("one", replicas=1))
    assert await store.update(KIND, {**first}) == first
    assert store.revision == int(first["metadata"]["resourceVersion"])


async def test_a_number_made_a_truth_is_a_change(store: ResourceStore) -> None:
    created = await store.create(KIND, thing("one", arguments={"times": 1}))
    updated = await store.update(KIND, {**created, "spec": {"arguments": {"times": True}}})
    assert updated["metadata"]["resourceVersion"] != created["metadata"]["resourceVersion"]
    assert store.get(KIND, "default", "one")["spec"]["arguments"]["times"] is True


async def test_a_deleted_object_is_not_brought_back_by_an_update(store: ResourceStore) -> None:
    first = await store.create(KIND, thing("one"))
    last = await store.delete(KIND, first)
    for stale in (first, last):
        with pytest.raises(NotFound):
            await store.update(KIND, {**stale, "spec": {"replicas": 7}})


async def test_a_fenced_write_is_refused_after_deposition(store: ResourceStore, log: MemoryLog) -> None:
    fence = await new_epoch(log)
    first = await store.create(KIND, thing("one"), fence=fence)
    await new_epoch(log)
    with pytest.raises(Deposed):
        await store.create(KIND, thing("two"), fence=fence)
    with pytest.raises(Deposed):
        await store.update(KIND, {**first, "spec": {"replicas": 2}}, fence=fence)
    assert [item["metadata"]["name"] for item in store.list(KIND).items] == ["one"]


async def test_lists_are_ordered_and_confined_to_their_namespace(store: ResourceStore) -> None:
    for namespace, name in (("b", "2"), ("a", "9"), ("b", "1")):
        await store.create(KIND, thing(name, namespace))
    await store.create("agentnodes", thing("node", ""))

    def names(namespace: str = "") -> list[str]:
        return [item["metadata"]["name"] for item in store.list(KIND, namespace).items]

    assert (names(), names("b"), names("c")) == (["9", "1", "2"], ["1", "2"], [])
    assert store.get("agentnodes", "", "node")["kind"] == "AgentCluster"
    await store.delete(KIND, store.get(KIND, "a", "9"))
    assert names() == ["1", "2"]


async def test_a_new_store_loads_what_is_there(store: ResourceStore, log: MemoryLog, clock: SimClock) -> None:
    one = await store.create(KIND, thing("one"))
    await store.delete(KIND, await store.create(KIND, thing("two")))
    await log.append(Write("al.fleet.fleet.lease", b"not an object"))
    await log.append(Write("o.agentclusters.default.broken", b"not json"))
    async with ResourceStore(log, clock) as late:
        assert late.list(KIND).items == [one]
        assert late.revision == 5


async def watched(store: ResourceStore, count: int, **options: Any) -> list[tuple[str, str]]:
    changes: list[Change] = []
    async with store.watch(KIND, **options) as watch, asyncio.timeout(5):
        while len(changes) < count:
            changes += await watch.ready()
    return [(change.type.value, change.object["metadata"]["name"]) for change in changes]


async def test_every_moment_that_the_history_reaches_can_be_listed(
    store: ResourceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "HISTORY_CHANGES_MAX", 150)
    dice = random.Random(5)
    shown = []
    for _ in range(300):
        name, namespace = f"n{dice.randrange(12)}", dice.choice(("a", "b"))
        try:
            found = store.get(KIND, namespace, name)
        except NotFound:
            await store.create(KIND, thing(name, namespace))
        else:
            if dice.random() < 0.4:
                await store.delete(KIND, found)
            else:
                await store.update(KIND, {**found, "spec": {"x": dice.random()}})
        shown.append({place: store.list(KIND, place) for place in ("", "a", "b")})
    for moment in shown[-150:]:
        for place, listing in moment.items():
            assert store.list_as_of(listing.revision, KIND, place) == listing
    with pytest.raises(Expired):
        store.list_as_of(shown[-152][""].revision, KIND)


async def test_a_watch_resumes_after_a_revision(store: ResourceStore) -> None:
    one = await store.create(KIND, thing("one"))
    two = await store.create(KIND, thing("two", "other"))
    await store.update(KIND, {**one, "spec": {"replicas": 2}})
    await store.delete(KIND, two)
    since = int(one["metadata"]["resourceVersion"])
    assert await watched(store, 3, since=since) == [("ADDED", "two"), ("MODIFIED", "one"), ("DELETED", "two")]
    assert await watched(store, 1, since=since, namespace="default") == [("MODIFIED", "one")]


async def test_a_watch_waits_and_its_revision_moves_on(store: ResourceStore) -> None:
    async with store.watch(KIND) as watch:
        waiting = asyncio.ensure_future(watch.ready())
        created = await store.create(KIND, thing("one"))
        (change,) = await waiting
        assert (change.type, change.object, change.previous) == (ChangeType.ADDED, created, None)
        await store.create("agentnodes", thing("node", ""))
        assert watch.revision == store.revision
        await store.create(KIND, thing("two"))
        assert watch.revision < store.revision


async def test_a_watch_that_is_woken_hands_out_nothing(store: ResourceStore) -> None:
    async with store.watch(KIND) as watch:
        waiting = asyncio.ensure_future(watch.ready())
        await asyncio.sleep(0)
        watch.wake()
        assert not await waiting
        await store.create(KIND, thing("one"))
        assert len(await watch.ready()) == 1


async def test_closing_a_watch_ends_the_one_who_waits(store: ResourceStore) -> None:
    watch = store.watch(KIND)
    waiting = asyncio.ensure_future(watch.ready())
    await asyncio.sleep(0)
    await watch.aclose()
    assert not await waiting
    assert not await watch.ready()


async def test_a_revision_before_the_start_has_expired(store: ResourceStore, log: MemoryLog, clock: SimClock) -> None:
    await store.create(KIND, thing("one"))
    await store.create(KIND, thing("two"))
    async with ResourceStore(log, clock) as late:
        with pytest.raises(Expired):
            late.watch(KIND, since=1)
        async with late.watch(KIND, since=2):
            pass


async def test_a_watcher_that_is_too_slow_expires_and_holds_nobody_up(
    store: ResourceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "HISTORY_CHANGES_MAX", 10)
    slow = store.watch(KIND)
    for number in range(11):
        await store.create(KIND, thing(f"n{number:02}"))
    with pytest.raises(Expired):
        await slow.ready()
    assert await watched(store, 10, since=1) == [("ADDED", f"n{number:02}") for number in range(1, 11)]


async def test_the_history_of_large_objects_is_shorter(store: ResourceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "HISTORY_BYTES_MAX", 10_000)
    slow = store.watch(KIND)
    for number in range(5):
        await store.create(KIND, thing(f"n{number}", text="x" * 3000))
    with pytest.raises(Expired):
        await slow.ready()
    assert await watched(store, 3, since=2) == [("ADDED", f"n{number}") for number in range(2, 5)]
    await store.create(KIND, thing("larger", text="x" * 20_000))
    assert await watched(store, 1, since=5) == [("ADDED", "larger")]
    with pytest.raises(Expired):
        store.watch(KIND, since=4)


async def test_listeners_hear_after_the_cache_has_changed_and_do_not_harm_it(store: ResourceStore) -> None:
    heard: list[str] = []

    def broken(_: Sequence[Change]) -> None:
        raise RuntimeError("deliberate")

    def listener(changes: Sequence[Change]) -> None:
        heard.extend(store.get(KIND, "default", change.object["metadata"]["name"])["kind"] for change in changes)

    store.on_change(broken)
    forget = store.on_change(listener)
    await store.create(KIND, thing("one"))
    forget()
    await store.create(KIND, thing("two"))
    assert heard == ["AgentCluster"]


async def test_a_revision_that_never_comes_is_temporary(store: ResourceStore) -> None:
    with pytest.raises(Temporary):
        await store.wait_for(1_000_000, timeout_s=0.01)
    with pytest.raises(Temporary):
        await store.wait_for(1_000_000, timeout_s=0)


async def test_events_disappear_with_their_time(log: MemoryLog, clock: SimClock) -> None:
    async with ResourceStore(log, clock, ttl_s=3600) as events:
        await events.create("events", thing("old"))
        await clock.advance(3000)
        await events.create("events", thing("new"))
        watch = events.watch("events")
        await clock.advance(700)
        (change,) = await watch.ready()
        assert (change.type, change.object["metadata"]["name"]) == (ChangeType.DELETED, "old")
        assert [item["metadata"]["name"] for item in events.list("events").items] == ["new"]
        assert await log.subjects() == {"oe.events.default.new"}


async def test_a_failure_to_forget_is_told_and_made_good(
    log: MemoryLog, clock: SimClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with ResourceStore(log, clock, ttl_s=60) as events:
        await events.create("events", thing("old"))

        def fail(_: object) -> None:
            raise RuntimeError("deliberate")

        with monkeypatch.context() as broken:
            broken.setattr(events, "_publish", fail)
            await clock.advance(70)
            assert any("forgetting what has expired failed" in entry.getMessage() for entry in caplog.records)
        await events.create("events", thing("other"))
        await clock.advance(70)
        assert not events.list("events").items


async def test_what_vanished_unannounced_is_found_by_the_hourly_repair(
    store: ResourceStore, log: MemoryLog, clock: SimClock
) -> None:
    await log.append(Write("o.agentclusters.default.ghost", msgspec.json.encode(thing("ghost")), ttl_s=60))
    await store.create(KIND, thing("real"))
    watch = store.watch(KIND)
    await clock.advance(3601)
    (change,) = await watch.ready()
    assert (change.type, change.object["metadata"]["name"]) == (ChangeType.DELETED, "ghost")
    assert [item["metadata"]["name"] for item in store.list(KIND).items] == ["real"]


async def test_what_was_accepted_can_be_grown_by_the_system_and_always_be_deleted(store: ResourceStore) -> None:
    def sized(size: int, letter: str = "x") -> dict[str, Any]:
        return thing("one", filler=letter * (size - len(msgspec.json.encode(thing("one", filler="")))))

    async def store_as(size: int, letter: str = "x", **limit: int) -> dict[str, Any]:
        metadata = store.get(KIND, "default", "one")["metadata"]
        return await store.update(KIND, {**sized(size, letter), "metadata": metadata}, **limit)

    limit = 2_000
    with pytest.raises(TooLarge, match="may have 2,000 bytes as stored, this has 2,001"):
        await store.create(KIND, sized(limit + 1), bytes_max=limit)
    await store.create(KIND, sized(limit), bytes_max=limit)
    with pytest.raises(TooLarge):
        await store_as(limit + 1, bytes_max=limit)
    await store_as(OBJECT_BYTES_MAX)
    with pytest.raises(TooLarge):
        await store_as(OBJECT_BYTES_MAX + 1)
    largest = await store_as(OBJECT_BYTES_MAX, "y", bytes_max=limit)  # it has not grown
    deletion = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/hold"]}
    marked = await store.mark(KIND, {**largest, "metadata": {**largest["metadata"], **deletion}})
    await store.delete(KIND, marked)
    assert store.count(KIND) == 0
