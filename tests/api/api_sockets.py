"""The client's side of a WebSocket as ASGI has it, and a handshake that is being served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

from choregos.api.access.authenticators import PEER
from choregos.api.rules import channels
from choregos.foundation.tasks import Tasks

ADMIN = {"subject": ((("commonName", "admin"),), (("organizationName", "system:masters"),))}
NOBODY = {"subject": ((("commonName", "nobody"),),)}


class Socket:
    """The client's side of a WebSocket, as ASGI has it."""

    def __init__(self) -> None:
        self.to_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.from_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.to_server.put_nowait({"type": "websocket.connect"})

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await self.from_server.get()

    async def accepted(self) -> str:
        message = await self.next()
        assert message["type"] == "websocket.accept", message
        protocol: str = message["subprotocol"]
        return protocol

    async def refused(self) -> tuple[int, str]:
        """Code and message of the Status that answers the handshake."""
        start, body = await self.next(), await self.next()
        assert start["type"] == "websocket.http.response.start"
        return start["status"], json.loads(body["body"])["message"]

    async def data(self) -> tuple[int, bytes]:
        """Channel and content of the next message that has any."""
        while True:
            message = await self.next()
            assert message["type"] == "websocket.send", message
            if len(message["bytes"]) > 1:
                return message["bytes"][0], message["bytes"][1:]

    async def status(self) -> dict[str, Any]:
        """How it ended; the socket is closed after that."""
        channel, data = await self.data()
        assert channel == channels.ERROR
        closed = await self.next()
        assert (closed["type"], closed["code"]) == ("websocket.close", 1000)
        found: dict[str, Any] = json.loads(data)
        return found

    def send(self, data: bytes) -> None:
        self.to_server.put_nowait({"type": "websocket.receive", "bytes": data})

    def send_text(self, text: str) -> None:
        self.to_server.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        self.to_server.put_nowait({"type": "websocket.disconnect", "code": 1001})


@asynccontextmanager
async def handshake(
    world: Any, path: str, query: Any, *, protocols: tuple[str, ...] = (channels.V5,), certificate: Any = ADMIN
) -> AsyncIterator[Socket]:
    """A handshake that is being served; on leaving, the server's side must have ended."""
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": urlencode(query, doseq=True).encode(),
        "root_path": "",
        "headers": [(b"user-agent", b"test")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "subprotocols": list(protocols),
        "extensions": {"websocket.http.response": {}},
        PEER: certificate,
    }
    socket = Socket()
    async with Tasks() as tasks:
        running = tasks.start(world.app(scope, socket.to_server.get, socket.from_server.put), "socket")
        yield socket
        async with asyncio.timeout(10):
            await running


async def allow(world: Any) -> None:
    body = {"metadata": {"labels": {"choregos.dev/exec": "allowed"}}}
    assert (await world.client.patch("/api/v1/namespaces/default", body)).code == 200
