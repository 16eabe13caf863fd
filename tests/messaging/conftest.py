"""Transports of both backends for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from choregos.messaging.backends.memory import MemoryBus, MemoryCallTransport
from choregos.messaging.backends.nats import open_nats_transport
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.transport import CallTransport

OpenTransport = Callable[[], Awaitable[CallTransport]]


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.real)])
async def open_transport(request: pytest.FixtureRequest) -> AsyncIterator[OpenTransport]:
    """Opens one more transport, each with a connection of its own, to the same bus."""
    bus = MemoryBus()
    async with AsyncExitStack() as stack:

        async def open_one() -> CallTransport:
            transport: CallTransport
            if request.param == "memory":
                transport = MemoryCallTransport(bus, Deadlines())
                stack.push_async_callback(transport.close)
            else:
                address = request.getfixturevalue("nats_address")
                transport = await stack.enter_async_context(open_nats_transport(address, "test", Deadlines()))
            return transport

        yield open_one
