"""A tail notices whatever goes wrong between the server and itself, and goes on without gap or repeat."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

import pytest
from nats.aio.msg import Msg

from choregos.foundation.bus.connection import Bus
from choregos.foundation.errors import Expired, Permanent, Temporary
from choregos.foundation.tasks import Tasks
from choregos.store.backends import jetstream, jetstream_tail
from choregos.store.backends.jetstream import JetStreamLog
from choregos.store.port import BATCH_WRITES_MAX, Record, Write
from choregos.testing.record_log_contract import SUBJECTS

pytestmark = pytest.mark.real


async def fill(log: JetStreamLog, count: int, data: bytes = b"") -> None:
    for start in range(0, count, BATCH_WRITES_MAX):
        batch = range(start, min(start + BATCH_WRITES_MAX, count))
        await log.append_batch([Write(f"a.{number}", data) for number in batch])


async def test_lost_deliveries_are_read_again(jetstream_log: JetStreamLog, monkeypatch: pytest.MonkeyPatch) -> None:
    receive = jetstream_tail._Consumer._receive
    losses = {100, 1_500, 2_999}
    count = 0

    async def receive_most(consumer: jetstream_tail._Consumer, message: Msg) -> None:
        nonlocal count
        count += 1
        if count not in losses:
            await receive(consumer, message)

    monkeypatch.setattr(jetstream_tail._Consumer, "_receive", receive_most)
    monkeypatch.setattr(jetstream_tail, "HEARTBEAT_S", 0.2)
    await fill(jetstream_log, 3_000)
    received: list[Record] = []
    async with asyncio.timeout(20), aclosing(jetstream_log.tail()) as batches:
        while len(received) < 3_000:
            received += (await anext(batches)).records
    assert [record.subject for record in received] == [f"a.{number}" for number in range(3_000)]
    assert count > 3_000


async def test_a_consumer_that_vanished_is_replaced(
    jetstream_log: JetStreamLog, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream_tail, "HEARTBEAT_S", 0.2)
    manager = bus.client.jetstream()
    async with asyncio.timeout(20), aclosing(jetstream_log.tail()) as batches:
        assert (await anext(batches)).caught_up
        for consumer in await manager.consumers_info(jetstream_log.stream):
            await manager.delete_consumer(jetstream_log.stream, consumer.name)
        await jetstream_log.append(Write("a.1", b"unheard"))
        assert [record.data for record in (await anext(batches)).records] == [b"unheard"]


async def test_a_reader_that_rests_loses_nothing(jetstream_log: JetStreamLog) -> None:
    """More than the server sends without being asked to go on (32 MiB)."""
    count = 40_000
    received: list[Record] = []
    async with asyncio.timeout(60), aclosing(jetstream_log.tail()) as batches:
        await anext(batches)
        await fill(jetstream_log, count, b"x" * 1_000)
        while len(received) < count:
            received += (await anext(batches)).records
    assert [record.subject for record in received] == [f"a.{number}" for number in range(count)]


async def test_an_ended_tail_leaves_no_consumer_behind(jetstream_log: JetStreamLog, bus: Bus) -> None:
    async with aclosing(jetstream_log.tail()) as batches:
        await anext(batches)
    await bus.client.flush()
    async with asyncio.timeout(10):
        while await bus.client.jetstream().consumers_info(jetstream_log.stream):
            await asyncio.sleep(0.01)


async def lose_connection(bus: Bus) -> None:
    """Returns when it is back: nats-server closes it, because header and payload together are too large."""
    back = asyncio.Event()
    forget_listener = bus.on_change(lambda connected: back.set() if connected else None)
    await bus.client.publish("a.large", b"x" * bus.client.max_payload, headers={"too": "much"})
    await back.wait()
    forget_listener()


async def test_a_reader_has_one_consumer_however_often_the_connection_is_lost(
    jetstream_log: JetStreamLog, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    losses = 4
    came = asyncio.Queue[str]()

    async def read() -> None:
        async for batch in jetstream_log.tail():
            for record in batch.records:
                came.put_nowait(record.subject)

    async with asyncio.timeout(60), Tasks() as tasks:
        await jetstream_log.append(Write("a.first", b""))
        tasks.start(read(), "read")
        assert await came.get() == "a.first"
        for number in range(losses):
            await lose_connection(bus)
            await jetstream_log.append(Write(f"a.{number}", b""))
            assert await came.get() == f"a.{number}"
        assert len(await bus.client.jetstream().consumers_info(jetstream_log.stream)) == 1
    told = [record for record in caplog.records if "reading anew" in record.getMessage()]
    assert len(told) == losses


async def test_a_reader_that_is_one_too_many_waits_for_its_turn(
    jetstream_log: JetStreamLog, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    manager = bus.client.jetstream()
    config = (await manager.stream_info(jetstream_log.stream)).config
    assert config.max_consumers == jetstream.CONSUMERS_MAX
    await manager.update_stream(config, max_consumers=1)
    await jetstream_log.append(Write("a.1", b""))
    async with asyncio.timeout(20), aclosing(jetstream_log.tail()) as second:
        async with aclosing(jetstream_log.tail()) as first:
            await anext(first)
            waiting = asyncio.ensure_future(anext(second))
            while "maximum consumers" not in caplog.text:
                await asyncio.sleep(0.01)
            assert not waiting.done()
        assert [record.subject for record in (await waiting).records] == ["a.1"]


async def test_a_stream_with_the_subjects_of_another_is_refused(jetstream_log: JetStreamLog, bus: Bus) -> None:
    async with JetStreamLog(bus, f"{jetstream_log.stream}_B") as second:
        with pytest.raises(Permanent, match="overlap"):
            await second.provision(["a.>"])
        with pytest.raises(Temporary):
            await second.last("a.1")
        with pytest.raises(Temporary):
            await second.append(Write("nobody.listens", b""))


async def test_provisioning_twice_changes_nothing_and_settings_can_grow(jetstream_log: JetStreamLog) -> None:
    await jetstream_log.append(Write("a.1", b"kept"))
    await jetstream_log.provision(["a.>", "b.>", "al.>"])
    await jetstream_log.provision(["a.>", "b.>", "al.>", "c.>"])
    await jetstream_log.append(Write("c.1", b""))
    assert await jetstream_log.subjects() == {"a.1", "c.1"}


async def test_a_stream_that_was_made_anew_is_not_mistaken_for_the_old_one(
    jetstream_log: JetStreamLog, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream_tail, "HEARTBEAT_S", 0.2)
    await fill(jetstream_log, 2)
    async with asyncio.timeout(20), aclosing(jetstream_log.tail()) as batches:
        assert (await anext(batches)).sequence == 2
        await bus.client.jetstream().delete_stream(jetstream_log.stream)
        await jetstream_log.provision(SUBJECTS)
        await fill(jetstream_log, 5)
        with pytest.raises(Expired):
            await anext(batches)
