"""nats-server dies without warning while it is written and read: nothing acknowledged is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from choregos.foundation.bus.connection import Bus, connect
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Conflict, Temporary
from choregos.foundation.tasks import Tasks
from choregos.store.backends.jetstream import JetStreamLog
from choregos.store.port import Record, Write
from choregos.store.resources import ResourceStore
from choregos.testing.nats_server import NatsServer
from choregos.testing.record_log_contract import SUBJECTS, read

pytestmark = pytest.mark.real

STREAM = "TEST"
KILLS = 3


@pytest.fixture
async def own_bus(own_nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connect(own_nats_server.address, "tests") as bus:
        yield bus


@pytest.fixture
async def log(own_bus: Bus) -> AsyncIterator[JetStreamLog]:
    async with JetStreamLog(own_bus, STREAM) as log:
        await log.provision([*SUBJECTS, "o.>"])
        yield log


async def restart(server: NatsServer) -> None:
    server.kill()
    await asyncio.to_thread(server.start)


async def append_surely(log: JetStreamLog, subject: str, data: bytes) -> int:
    """Writes with compare-and-set until it is known to be stored, as a careful writer does; returns the sequence."""
    while True:
        try:
            last = await log.last(subject)
            if last is not None and last.data == data:
                return last.sequence
            return await log.append(Write(subject, data, expected=0 if last is None else last.sequence))
        except Temporary as error:
            await asyncio.sleep(min(error.retry_after_s, 0.05))
        except Conflict:
            continue


async def test_acknowledged_writes_survive_and_a_tail_has_no_gap(
    own_nats_server: NatsServer, log: JetStreamLog
) -> None:
    writers, acknowledged = 4, {}
    stop = asyncio.Event()
    seen: list[Record] = []

    async def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            subject = f"a.{writer}.{number}"
            acknowledged[subject] = await append_surely(log, subject, f"{writer}/{number}".encode())
            number += 1

    async def follow() -> None:
        async with aclosing(log.tail(("a.>",))) as batches:
            async for batch in batches:
                seen.extend(batch.records)

    async with asyncio.timeout(90), Tasks() as tasks:
        following = tasks.start(follow(), "follow")
        writing = [tasks.start(write(writer), f"write {writer}") for writer in range(writers)]
        for _ in range(KILLS):
            until = len(acknowledged) + 100
            while len(acknowledged) < until:
                await asyncio.sleep(0.01)
            await restart(own_nats_server)
        stop.set()
        await asyncio.gather(*writing)
        while not seen or seen[-1].sequence < max(acknowledged.values()):
            await asyncio.sleep(0.01)
        assert not following.done()
    stored = {record.subject: record for record in await read(log, ("a.>",))}
    assert {subject: stored[subject].sequence for subject in acknowledged} == acknowledged
    sequences = [record.sequence for record in seen]
    assert sequences == sorted(set(sequences))
    assert {record.subject for record in seen} == set(stored)


async def test_an_acknowledged_batch_is_whole_and_the_rest_of_any_is_its_beginning(
    own_nats_server: NatsServer, log: JetStreamLog
) -> None:
    acknowledged: list[int] = []
    attempts = 0

    async def write() -> None:
        nonlocal attempts
        while True:
            attempts += 1
            batch = [Write(f"a.{attempts}.{member}", b"x" * 200, expected=0) for member in range(200)]
            try:
                await log.append_batch(batch)
                acknowledged.append(attempts)
            except Temporary:
                await asyncio.sleep(0.02)

    async with asyncio.timeout(60), Tasks() as tasks:
        writing = tasks.start(write(), "write")
        for _ in range(KILLS):
            until = len(acknowledged) + 10
            while len(acknowledged) < until:
                await asyncio.sleep(0.005)
            await restart(own_nats_server)
        until = len(acknowledged) + 1
        while len(acknowledged) < until:
            await asyncio.sleep(0.005)
        writing.cancel()
        await asyncio.wait([writing])
    stored: dict[int, set[int]] = {}
    for subject in await log.subjects("a.>"):
        _, batch, member = subject.split(".")
        stored.setdefault(int(batch), set()).add(int(member))
    assert all(stored[batch] == set(range(200)) for batch in acknowledged)
    assert all(members == set(range(len(members))) for members in stored.values())


async def test_while_the_server_is_away_writers_fail_at_once_and_nothing_is_sent_late(
    own_nats_server: NatsServer, own_bus: Bus, log: JetStreamLog
) -> None:
    own_nats_server.kill()
    lost: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    if own_bus.connected:
        own_bus.on_change(lambda connected: lost.done() or lost.set_result(connected))
        assert await lost is False
    for attempt in (log.append(Write("a.1", b"")), log.append_batch([Write("a.1", b"")]), log.last("a.1")):
        with pytest.raises(Temporary):
            async with asyncio.timeout(1):
                await attempt
    await asyncio.to_thread(own_nats_server.start)
    async with asyncio.timeout(20):
        await own_bus.wait_connected()
        await append_surely(log, "a.2", b"")
    assert [record.subject for record in await read(log)] == ["a.2"]


async def test_a_store_goes_on_after_the_server_came_back(own_nats_server: NatsServer, log: JetStreamLog) -> None:
    async with ResourceStore(log, SystemClock()) as store, store.watch("things") as watch, asyncio.timeout(30):
        await store.create("things", {"metadata": {"name": "before", "namespace": "ns"}})
        await restart(own_nats_server)
        while True:
            try:
                await store.create("things", {"metadata": {"name": "after", "namespace": "ns"}})
                break
            except Temporary:
                await asyncio.sleep(0.02)
        assert [change.object["metadata"]["name"] for change in await watch.ready()] == ["before", "after"]
