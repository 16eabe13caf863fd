"""Connections to ports of an agent's worker, at its node: who is reached, both ways, and how they end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from choregos.agent.commands import book as book_module
from choregos.agent.commands.book import CommandBook, Place
from choregos.agent.commands.ports import listening
from choregos.foundation.clock import SystemClock
from choregos.foundation.ids import SystemIds
from choregos.wire.commands import (
    STDERR,
    STDOUT,
    CommandReply,
    EndCommand,
    OpenConnection,
    ReadCommand,
    WriteCommand,
)

pytestmark = pytest.mark.real
PATIENCE_S = 30.0
GROUP = os.getpgid(0)
"""What stands for a worker: this process, and its process group."""


class World:
    """A book whose only agent lives in this process, and a server of that agent."""

    def __init__(self) -> None:
        self.place: Place | None = Place("team/web-0", {}, "w1", GROUP)
        self.book = CommandBook(lambda uid: self.place, SystemClock(), SystemIds())
        self.accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.port = 0

    async def ask(self, request: Any) -> CommandReply:
        return await self.book.answer(request)

    async def connect(self) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        reply = await self.ask(OpenConnection("u", self.port))
        assert not reply.refusal, reply.refusal
        async with asyncio.timeout(PATIENCE_S):
            return reply.command, *await self.accepted.get()

    async def read(self, name: str) -> CommandReply:
        reply = await self.ask(ReadCommand(name, 5.0))
        assert not reply.refusal, reply.refusal
        return reply

    async def read_all(self, name: str) -> bytes:
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                reply = await self.read(name)
                assert all(channel == STDOUT for channel, _ in reply.output)
                data += b"".join(part for _, part in reply.output)
                if reply.status >= 0:
                    assert reply.status == 0
                    return data


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    server = await asyncio.start_server(lambda *ends: world.accepted.put_nowait(ends), "127.0.0.1", 0)
    world.port = server.sockets[0].getsockname()[1]
    async with server:
        yield world
        await world.book.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_bytes_go_both_ways_and_each_side_may_end_first(world: World) -> None:
    name, reader, writer = await world.connect()
    assert (await world.ask(WriteCommand(name, b"hello", wait_s=5.0))).taken == 5
    assert await reader.readexactly(5) == b"hello"
    writer.write(b"answer")
    assert (await world.read(name)).output == ((STDOUT, b"answer"),)
    await world.ask(WriteCommand(name, b"last", end=True, wait_s=5.0))
    assert await reader.read() == b"last"
    writer.write(b"goodbye")
    writer.close()
    assert await world.read_all(name) == b"goodbye"
    assert (await world.ask(ReadCommand(name))).refusal
    assert len(world.book) == 0


async def test_more_than_fits_is_held_back_until_it_is_read(world: World) -> None:
    name, _, writer = await world.connect()
    sent = os.urandom(3_000_000)
    writer.write(sent)
    writer.close()
    await until(lambda: len(world.book._running[name].process._output._chunks) > 0)
    assert await world.read_all(name) == sent


async def test_whoever_ends_it_or_leaves_the_worker_closes_it(world: World) -> None:
    name, reader, writer = await world.connect()
    await world.ask(EndCommand(name))
    assert await reader.read() == b""
    writer.close()
    name, reader, writer = await world.connect()
    world.place = None
    assert await reader.read() == b""
    writer.close()
    reply = await world.read(name)
    assert reply.output == ((STDERR, b"the agent has left the worker that this ran beside"),)
    assert reply.status == 0


async def test_an_agent_that_resets_the_connection_ends_it(world: World) -> None:
    name, _, writer = await world.connect()
    writer.transport.abort()
    assert await world.read_all(name) == b""
    assert (await world.ask(WriteCommand(name, b"late", wait_s=5.0))).refusal


async def test_only_ports_of_the_worker_are_reached(world: World) -> None:
    reply = await world.ask(OpenConnection("u", 1))
    assert reply.refusal.startswith("the agent's worker does not listen on port 1 of the loopback, only on")
    assert str(world.port) in reply.refusal
    world.place = Place("team/web-0", {}, "w1", 1)  # a process that is not in our group
    reply = await world.ask(OpenConnection("u", world.port))
    assert "on no other either" in reply.refusal
    for place in (None, Place("team/web-0", {})):
        world.place = place
        assert (await world.ask(OpenConnection("u", world.port))).refusal == "the agent is in no worker process"


async def test_connections_count_among_the_commands_of_a_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "COMMANDS_MAX", 1)
    name, _, writer = await world.connect()
    assert "1 commands run" in (await world.ask(OpenConnection("u", world.port))).refusal
    writer.close()
    await world.read_all(name)
    _, _, writer = await world.connect()
    writer.close()


@pytest.mark.parametrize(
    ("family", "address", "reached"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "127.0.0.2", "127.0.0.2"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "::1"),
    ],
)
def test_where_a_listener_is_reached(family: socket.AddressFamily, address: str, reached: str) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip(f"there is no {address} here")
        port = listener.getsockname()[1]
        assert port not in listening(GROUP)
        listener.listen()
        assert listening(GROUP)[port] == reached
    assert port not in listening(GROUP)
