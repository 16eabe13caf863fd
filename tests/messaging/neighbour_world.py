"""Neighbours of one directory over one memory bus, and peers that speak to their sockets by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from choregos.messaging.backends.memory import MemoryBus, MemoryCallTransport
from choregos.messaging.backends.neighbour_frames import GREETING, frame
from choregos.messaging.backends.neighbours import open_neighbour_transport
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.neighbourhood import Neighbourhood, prepare
from choregos.messaging.transport import CallTransport, Closer

SUBJECT = "c.local.default.host"
PATIENCE_S = 20.0


class Echo:
    """Answers what it gets, while it is not told to be silent."""

    def __init__(self, transport: CallTransport) -> None:
        self.transport = transport
        self.silent = False
        self.received: list[tuple[bytes, str]] = []
        self.arrival = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def on_message(self, payload: bytes, reply: str) -> None:
        self.received.append((payload, reply))
        self.arrival.set()
        if reply and not self.silent:
            task = asyncio.ensure_future(self.transport.publish(reply, b"re:" + payload))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def until(self, count: int) -> None:
        """Waits for so many messages in all."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.received) < count:
                self.arrival.clear()
                await self.arrival.wait()


class Raw:
    """One end of a connection, without a protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE_S):
            header = await self.reader.readexactly(12)
            payload = await self.reader.readexactly(int.from_bytes(header[:4], "big"))
        return int.from_bytes(header[4:], "big"), payload

    async def until_closed(self) -> None:
        """Reads until the other side ends it."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while await self.reader.read(65536):
                    pass

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class World:
    """A context manager; transports that are opened in it end with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bus = MemoryBus()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> World:
        prepare(self.directory)
        self.neighbourhood = Neighbourhood(self.directory)
        self._stack.callback(self.neighbourhood.close)
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._stack.aclose()

    async def open(self) -> CallTransport:
        deadlines = Deadlines()
        bus = MemoryCallTransport(self.bus, deadlines)
        return await self._stack.enter_async_context(open_neighbour_transport(bus, self.directory, deadlines))

    async def serve(self, subject: str = SUBJECT) -> tuple[Echo, Closer]:
        echo = Echo(await self.open())
        return echo, await echo.transport.serve(subject, echo.on_message)

    async def connect(self, subject: str = SUBJECT) -> Raw:
        """A peer that asks by hand."""
        raw = Raw(*await asyncio.open_unix_connection(self.neighbourhood.address(subject)))
        self._stack.push_async_callback(raw.close)
        return raw

    async def pretend(
        self, answer: Callable[[Raw], Awaitable[None]], subject: str = SUBJECT, *, greeting: bytes = GREETING + b"token"
    ) -> None:
        """A peer that is asked, and answers each connection by hand."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raw = Raw(reader, writer)
            try:
                if greeting:
                    raw.write(frame(0, greeting))
                await answer(raw)
            finally:
                await raw.close()

        server = await asyncio.start_unix_server(connected, sock=self.neighbourhood.bind(subject))
        self._stack.callback(server.close)

    @property
    def files(self) -> list[str]:
        return [path.name for path in self.directory.iterdir()]
