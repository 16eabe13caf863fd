"""Transports of every backend for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from choregos.messaging.backends.memory import MemoryBus, MemoryCallTransport
from choregos.messaging.backends.nats import open_nats_transport
from choregos.messaging.backends.neighbours import open_neighbour_transport
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.transport import CallTransport

OpenTransport = Callable[[], Awaitable[CallTransport]]


@pytest.fixture(params=["memory", "neighbours", pytest.param("nats", marks=pytest.mark.real)])
async def open_transport(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenTransport]:
    """Opens one more transport, each with a connection of its own, to the same bus; neighbours in one directory."""
    bus = MemoryBus()
    async with AsyncExitStack() as stack:

        async def open_one() -> CallTransport:
            transport: CallTransport
            deadlines = Deadlines()
            if request.param == "nats":
                address = request.getfixturevalue("nats_address")
                return await stack.enter_async_context(open_nats_transport(address, "test", deadlines))
            transport = MemoryCallTransport(bus, deadlines)
            stack.push_async_callback(transport.close)
            if request.param == "neighbours":
                transport = await stack.enter_async_context(open_neighbour_transport(transport, tmp_path, deadlines))
            return transport

        yield open_one
