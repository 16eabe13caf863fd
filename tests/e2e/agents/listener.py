"""An agent that listens on ports of its own."""

from __future__ import annotations

import asyncio

from choregos import Agent, capability


class Listener(Agent):
    """On one port it says what it is told, in capitals, until it is told no more, and then goodbye. On another it sends
    a million bytes and closes. Settings: `address`, `127.0.0.1` by default."""

    async def on_start(self) -> None:
        address = self.settings.get("address", "127.0.0.1")
        self._servers = [await asyncio.start_server(serve, address, 0) for serve in (self._speak, self._pour)]

    async def on_stop(self) -> None:
        for server in self._servers:
            server.close()

    @capability("listen")
    async def ports(self) -> list[int]:
        return [server.sockets[0].getsockname()[1] for server in self._servers]

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data.upper())
            await writer.drain()
        writer.write(b"goodbye")
        writer.close()

    async def _pour(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 1_000_000)
        await writer.drain()
        writer.close()
