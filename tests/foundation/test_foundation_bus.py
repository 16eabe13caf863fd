"""The shared connection: refused, unreachable, lost and found again."""

from __future__ import annotations

import asyncio

import pytest
from nats.errors import OutboundBufferLimitError

from choregos.foundation.bus.connection import BusAddress, connect
from choregos.foundation.errors import Denied, Temporary
from choregos.testing.nats_server import NatsServer

pytestmark = pytest.mark.real


async def test_a_wrong_password_is_denied_at_once(nats_server: NatsServer) -> None:
    with pytest.raises(Denied):
        async with connect(BusAddress(nats_server.address.servers, "choregos", "wrong"), "test"):
            pass


async def test_a_missing_server_is_temporary() -> None:
    with pytest.raises(Temporary, match=r"127\.0\.0\.1:1\b"):
        async with connect(BusAddress(("nats://127.0.0.1:1",)), "test", timeout_s=0.3):
            pass


def _failing_listener(_: bool) -> None:
    raise RuntimeError("deliberate")


@pytest.mark.parametrize("ending", ["kill", "stop"])
async def test_a_connection_outlives_the_server(own_nats_server: NatsServer, ending: str) -> None:
    async with connect(own_nats_server.address, "test") as bus:
        changes: asyncio.Queue[bool] = asyncio.Queue()
        bus.on_change(_failing_listener)
        bus.on_change(changes.put_nowait)
        received: asyncio.Queue[bytes] = asyncio.Queue()

        async def receive(message: object) -> None:
            received.put_nowait(message.data)  # type: ignore[attr-defined]

        await bus.client.subscribe("greeting", cb=receive)
        getattr(own_nats_server, ending)()
        assert await changes.get() is False
        with pytest.raises(OutboundBufferLimitError):
            await bus.client.publish("greeting", b"late")
        own_nats_server.start()
        assert await changes.get() is True
        await bus.client.publish("greeting", b"hello")
        assert await received.get() == b"hello"
