"""The connection for calls against a real nats-server: refusals, restarts, large messages."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from choregos.foundation.bus.address import MESSAGE_BYTES_MAX, BusAddress
from choregos.foundation.errors import DeadlineExceeded, Denied, PayloadTooLarge, Permanent, Temporary, Unavailable
from choregos.messaging.backends.nats import open_nats_transport
from choregos.messaging.backends.nats_connection import NatsConnection, connect
from choregos.messaging.deadlines import Deadlines
from choregos.testing.nats_server import NatsServer

pytestmark = pytest.mark.real


class Mailbox:
    """Collects what one subscription gets."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()

    def put(self, subject: bytes, reply: bytes, payload: bytes, status: bytes) -> None:
        self._queue.put_nowait(payload)

    async def next(self) -> bytes:
        return await asyncio.wait_for(self._queue.get(), 10)


def test_it_runs_on_the_event_loop_of_workers(nats_address: BusAddress) -> None:
    async def scenario() -> bytes:
        async with connect(nats_address, "test") as connection:
            mailbox = Mailbox()
            await connection.subscribe("uvloop.messages", mailbox.put)
            await connection.publish("uvloop.messages", b"x" * 900_000)
            return await mailbox.next()

    assert uvloop.run(scenario()) == b"x" * 900_000


async def until_usable(connection: NatsConnection) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await connection.flush()
                return
            except Unavailable:
                await asyncio.sleep(0)


async def test_a_wrong_password_is_refused(nats_address: BusAddress) -> None:
    wrong = BusAddress(nats_address.servers, nats_address.user, "wrong")
    with pytest.raises(Denied, match="refuses user"):
        async with connect(wrong, "test"):
            pass


async def test_no_server_is_temporary_and_says_where() -> None:
    with pytest.raises(Temporary, match=r"nats://127\.0\.0\.1:1"):
        async with connect(BusAddress(("nats://127.0.0.1:1",)), "test", timeout_s=0.3):
            pass


async def test_another_scheme_is_refused() -> None:
    with pytest.raises(Permanent, match="tls://somewhere"):
        async with connect(BusAddress(("tls://somewhere",)), "test"):
            pass


async def test_large_messages_arrive_whole_and_too_large_ones_are_refused(nats_address: BusAddress) -> None:
    async with connect(nats_address, "test") as connection:
        mailbox = Mailbox()
        await connection.subscribe("large.messages", mailbox.put)
        sent = [bytes([number]) * 1_000_000 for number in range(5)]
        for payload in sent:
            await connection.publish("large.messages", payload)
        assert [await mailbox.next() for _ in sent] == sent
        with pytest.raises(PayloadTooLarge, match="1,179,648"):
            await connection.publish("large.messages", b"x" * (MESSAGE_BYTES_MAX + 1))


async def test_messages_keep_their_order(nats_address: BusAddress) -> None:
    async with connect(nats_address, "test") as connection:
        mailbox = Mailbox()
        await connection.subscribe("ordered.messages", mailbox.put)
        sent = [b"%d" % number for number in range(300)]
        for payload in sent:
            await connection.publish("ordered.messages", payload)
            if payload.endswith(b"7"):
                await asyncio.sleep(0)
        assert [await mailbox.next() for _ in sent] == sent


async def test_subscriptions_survive_a_restart_of_the_server(own_nats_server: NatsServer) -> None:
    async with connect(own_nats_server.address, "test") as connection:
        mailbox = Mailbox()
        await connection.subscribe("a.b", mailbox.put)
        own_nats_server.kill()
        async with asyncio.timeout(20):
            while True:
                try:
                    await connection.publish("a.b", b"into the void")
                except Unavailable:
                    break
                await asyncio.sleep(0)
        own_nats_server.start()
        await until_usable(connection)
        await connection.publish("a.b", b"after")
        assert await mailbox.next() == b"after"


async def test_a_request_without_a_connection_fails_at_once(own_nats_server: NatsServer) -> None:
    async with open_nats_transport(own_nats_server.address, "test", Deadlines()) as transport:
        own_nats_server.kill()
        async with asyncio.timeout(20):
            while True:
                try:
                    # What is sent before the loss is noticed waits for its deadline: it may have arrived.
                    await transport.request("a.b", b"", 0.01)
                except DeadlineExceeded:
                    continue
                except Unavailable as error:
                    if "cannot be reached" in str(error):
                        break
