"""What no read model may be harmed by: records it cannot read, a log that was replaced, and what nobody foresaw."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from itertools import count

import msgspec
import pytest

from choregos.foundation.errors import Expired, Permanent, Temporary
from choregos.store.backends.memory import MemoryLog
from choregos.store.directory import Directory
from choregos.store.instance import InstanceChange
from choregos.store.leases.heartbeat import LeaseObserver
from choregos.store.port import Batch, Record, Write
from choregos.store.resources import ResourceStore
from choregos.testing.sim_clock import SimClock
from choregos.wire import subjects
from choregos.wire.instances import VERSION, AgentRecord, LeaseRecord, Phase, StatusRecord, TemplateRecord

REGION = "local"

encode = msgspec.msgpack.encode


def agent(uid: str) -> bytes:
    return encode(AgentRecord(VERSION, uid, "set", "s1", "digest", "n1", 1, 1))


def status(uid: str) -> bytes:
    return encode(StatusRecord(VERSION, uid, 1, Phase.RUNNING, True, "host", 0, 1, capabilities=("talk",)))


def template(spec: object) -> bytes:
    return encode(TemplateRecord(VERSION, "digest", msgspec.json.encode(spec)))


def thing(name: str) -> bytes:
    return msgspec.json.encode({"kind": "Thing", "metadata": {"name": name, "namespace": "ns"}})


def record(subject: str, data: bytes, sequence: int) -> Record:
    return Record(subject, data, sequence, False, 0)


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
def log(clock: SimClock) -> MemoryLog:
    return MemoryLog(clock)


# Records that cannot be read

UNREADABLE_INSTANCES = [
    ("as.local.ns.x.extra", status("u1")),
    ("as.local.ns", status("u1")),
    ("a.local.ns.=FF", agent("u1")),
    ("a.local.ns.x", b"\xc1"),
    ("as.local.ns.x", b""),
    ("ad.local.ns.x", encode(["no", "deletion"])),
    ("at.local.ns.digest", b"{}"),
    ("at.local.ns.digest", encode(TemplateRecord(VERSION, "digest", b"{"))),
    ("at.local.ns.digest", template([])),
    ("at.local.ns.digest", template({"capabilities": 5})),
    ("at.local.ns.digest", template({"labels": "gold"})),
]


@pytest.mark.parametrize(("subject", "data"), UNREADABLE_INSTANCES, ids=count())
async def test_an_unreadable_record_of_an_instance_harms_nothing_else(
    log: MemoryLog, clock: SimClock, subject: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with Directory(log, REGION, clock) as early:
        await log.append_batch([Write("a.local.ns.good", agent("u9")), Write(subject, data)])
        await log.append(Write(subject, data))
        sequence = await log.append(Write("as.local.ns.good", status("u9")))
        async with Directory(log, REGION, clock) as late:
            for directory in (early, late):
                await directory.wait_for(sequence)
                assert [instance.name for instance in directory.list()] == ["good"]
                assert [instance.name for instance in directory.with_capability("ns", "talk")] == ["good"]
                assert directory.with_labels("ns", lambda labels: labels["choregos.dev/set"] == "set")
    assert len([entry for entry in caplog.records if subject in entry.getMessage()]) == 2, "once for each reader"


UNREADABLE_OBJECTS = [
    ("o.things.ns", thing("ns")),
    ("o.things.ns.x.extra", thing("x")),
    ("o.things.ns.=FF", thing("x")),
    ("o.things.ns.x", b"{"),
    ("o.things.ns.x", b"[]"),
    ("o.things.ns.x", b'{"metadata": {}}'),
    ("o.things.ns.x", b'{"metadata": []}'),
    ("o.things.ns.x", thing("good")),
]


@pytest.mark.parametrize(("subject", "data"), UNREADABLE_OBJECTS, ids=count())
async def test_an_unreadable_object_harms_nothing_else(
    log: MemoryLog, clock: SimClock, subject: str, data: bytes
) -> None:
    async with ResourceStore(log, clock) as early:
        await log.append(Write(subject, data))
        sequence = await log.append(Write("o.things.ns.good", thing("good")))
        async with ResourceStore(log, clock) as late:
            for store in (early, late):
                await store.wait_for(sequence)
                assert [item["metadata"]["name"] for item in store.list("things").items] == ["good"]


async def test_an_unreadable_lease_harms_nothing_else(log: MemoryLog, clock: SimClock) -> None:
    for node in ("node-x", "=FF"):
        await log.append(Write(f"al.local.{node}.lease", b"{"))
    good = encode(LeaseRecord(VERSION, "p1", 40.0, 1, 0))
    await log.append(Write(subjects.lease_subject(REGION, "node-good"), good))
    async with LeaseObserver(log, REGION, clock) as observer:
        assert observer.names() == ["good"]


# A log that was replaced


class ScriptedLog:
    """Its tail delivers what a test puts in, and raises the errors that it puts in."""

    def __init__(self) -> None:
        self.script: asyncio.Queue[Batch | Exception] = asyncio.Queue()
        self.asked: list[int] = []

    def put(self, *items: Batch | Exception) -> None:
        for item in items:
            self.script.put_nowait(item)

    async def tail(self, subjects: Sequence[str] = (">",), *, after: int = 0) -> AsyncGenerator[Batch, None]:
        self.asked.append(after)
        while True:
            item = await self.script.get()
            if isinstance(item, Exception):
                raise item
            yield item


OLD = Batch(
    (
        record("a.local.ns.kept", agent("u1"), 90),
        record("a.local.ns.ghost", agent("u2"), 92),
        record("as.local.ns.kept", status("u1"), 95),
        record("as.local.ns.ghost", status("u2"), 96),
    ),
    True,
    100,
)


async def test_a_replaced_log_leaves_no_ghosts(clock: SimClock) -> None:
    log = ScriptedLog()
    log.put(OLD)
    async with Directory(log, REGION, clock) as directory:  # type: ignore[arg-type]
        heard: list[InstanceChange] = []
        directory.on_change(heard.extend)
        watch = directory.watch()
        log.put(Expired("replaced"), Batch((record("a.local.ns.kept", agent("u1"), 3),), False, 3))
        await clock.advance(0)
        assert len(directory.list()) == 2
        assert (directory.revision, heard) == (100, []), "the old picture, until the new one is complete"
        log.put(
            Temporary("away"),
            Batch((record("a.local.ns.new", agent("u3"), 5), record("as.local.ns.new", status("u3"), 6)), True, 7),
        )
        await clock.advance(1)
        assert log.asked == [0, 0, 3]
        kept, new = directory.list()
        assert (kept.name, kept.revision, kept.status, new.name, new.ready) == ("kept", 3, None, "new", True)
        assert directory.with_capability("ns", "talk") == [new]
        assert {change.instance.name: str(change.type) for change in heard} == {
            "ghost": "DELETED",
            "kept": "MODIFIED",
            "new": "MODIFIED",
        }
        assert directory.revision == 7
        with pytest.raises(Expired):
            await watch.ready()
        with pytest.raises(Expired):
            directory.watch(since=6)
        later = directory.watch(since=7)
        log.put(Batch((record("a.local.ns.more", agent("u4"), 8),), True, 8))
        assert [change.instance.name for change in await later.ready()] == ["more"]


async def test_watches_of_objects_end_when_the_log_was_replaced(clock: SimClock) -> None:
    log = ScriptedLog()
    log.put(Batch((record("o.things.ns.ghost", thing("ghost"), 50), record("o.things.ns.x", thing("x"), 51)), True, 51))
    async with ResourceStore(log, clock) as store:  # type: ignore[arg-type]
        watch = store.watch("things", since=51)
        log.put(Expired("replaced"), Batch((record("o.things.ns.x", thing("x"), 2),), True, 2))
        await clock.advance(0)
        items = store.list("things").items
        assert [(item["metadata"]["name"], item["metadata"]["resourceVersion"]) for item in items] == [("x", "2")]
        with pytest.raises(Expired):
            await watch.ready()
        with pytest.raises(Expired):
            store.watch("things", since=1)


# Repair


class ForgetfulLog(MemoryLog):
    """A log whose listing fails, or leaves out what is there, on demand."""

    failures: list[Exception]
    omits = False

    async def subjects(self, filter: str = ">") -> frozenset[str]:
        if self.failures:
            raise self.failures.pop(0)
        return frozenset() if self.omits else await super().subjects(filter)


@pytest.fixture
def forgetful(clock: SimClock) -> ForgetfulLog:
    log = ForgetfulLog(clock)
    log.failures = []
    return log


async def test_a_repair_forgets_nothing_that_is_there(forgetful: ForgetfulLog, clock: SimClock) -> None:
    forgetful.omits = True
    async with Directory(forgetful, REGION, clock) as directory:
        await forgetful.append(Write("a.local.ns.live", agent("u1")))
        await forgetful.append(Write("a.local.ns.gone", agent("u2"), ttl_s=60))
        await clock.advance(4000)
        assert [instance.name for instance in directory.list()] == ["live"]


@pytest.mark.parametrize("error", [Temporary("deliberate"), RuntimeError("deliberate")])
async def test_a_repair_that_failed_is_tried_again_soon(
    forgetful: ForgetfulLog, clock: SimClock, error: Exception
) -> None:
    async with Directory(forgetful, REGION, clock) as directory:
        await forgetful.append(Write("a.local.ns.gone", agent("u2"), ttl_s=60))
        await clock.advance(3000)
        forgetful.failures = [error, error]
        await clock.advance(601)
        assert len(directory) == 1
        await clock.advance(10)
        assert len(directory) == 0


# What nobody foresaw


async def test_following_goes_on_after_an_unexpected_error(clock: SimClock, caplog: pytest.LogCaptureFixture) -> None:
    log = ScriptedLog()
    log.put(OLD)
    async with Directory(log, REGION, clock) as directory:  # type: ignore[arg-type]
        log.put(RuntimeError("deliberate"), Batch((record("a.local.ns.more", agent("u4"), 101),), True, 101))
        await clock.advance(2)
        assert directory.revision == 101
        assert log.asked == [0, 100]
    assert [entry.exc_info is not None for entry in caplog.records if entry.levelno >= logging.ERROR] == [True]


async def test_opening_tells_what_is_wrong(clock: SimClock) -> None:
    log = ScriptedLog()
    log.put(Permanent("deliberate"))
    with pytest.raises(Permanent):
        async with Directory(log, REGION, clock):  # type: ignore[arg-type]
            pass
