"""WebSockets to the API server, over a connection that `connection` has made; and a port of an agent over one.

wsproto does the protocol without I/O. Invariant: what has been received is handed out whole, message by message, and a
ping is answered only while somebody receives, as nothing else reads.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os

import wsproto.connection
from httpcore import AsyncNetworkStream, NetworkError
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Event, Message, Ping
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from choregos.foundation.errors import Permanent, Temporary

_PROPER = (CloseReason.NORMAL_CLOSURE, CloseReason.GOING_AWAY, CloseReason.NO_STATUS_RCVD)

READ_BYTES_MAX = 64 * 1024
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
CHUNK_BYTES_MAX = 64 * 1024

PORT_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
"""Channels of the only port; the first message of each names it."""


def handshake(protocol: str) -> dict[str, str]:
    """Headers of a request for a WebSocket."""
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": protocol,
    }


class ClientSocket:
    """One WebSocket after its handshake. One receiver at a time; any number of senders."""

    def __init__(self, stream: AsyncNetworkStream) -> None:
        self._stream = stream
        self._protocol = wsproto.connection.Connection(ConnectionType.CLIENT)
        self._sending = asyncio.Lock()

    async def send(self, data: bytes) -> None:
        """
        Raises:
            Temporary: the other side has closed it, or the connection is lost.
        """
        await self._send(Message(data))

    async def receive(self) -> bytes | None:
        """The next message; None once the other side has closed it.

        Raises:
            Temporary: the connection is lost.
            Permanent: what came is no WebSocket message, or too large.
        """
        message = bytearray()
        while True:
            for event in self._protocol.events():
                if isinstance(event, Message):
                    message += event.data.encode() if isinstance(event.data, str) else event.data
                    if event.message_finished:
                        return bytes(message)
                elif isinstance(event, Ping):
                    await self._send(event.response())
                elif isinstance(event, CloseConnection):
                    await self._closed(event)
                    return None
            if self._protocol.state is ConnectionState.CLOSED:
                return None
            if len(message) > MESSAGE_BYTES_MAX:
                raise Permanent("the API server sends a message that is too large")
            try:
                # Empty at the end of the stream, which wsproto knows as None.
                self._protocol.receive_data(await self._stream.read(READ_BYTES_MAX) or None)
            except NetworkError as error:
                raise Temporary(f"the connection to the API server is lost: {error}") from error

    async def _closed(self, event: CloseConnection) -> None:
        """Takes leave of the other side, if there is one. Raises: as `receive`, if this is no proper end."""
        if event.code == CloseReason.ABNORMAL_CLOSURE:
            raise Temporary("the connection to the API server is lost: it ended without a word")
        with contextlib.suppress(Temporary):  # it is closed in any case
            await self._send(event.response())
        if event.code not in _PROPER:
            raise Permanent(f"the connection to the API server has failed: {event.reason or event.code}")

    async def _send(self, event: Event) -> None:
        async with self._sending:
            try:
                await self._stream.write(self._protocol.send(event))
            except LocalProtocolError as error:
                raise Temporary("the API server has closed the connection") from error
            except NetworkError as error:
                raise Temporary(f"the connection to the API server is lost: {error}") from error


class AgentPort:
    """A connection to a port of an agent. One receiver and one sender at a time."""

    def __init__(self, socket: ClientSocket) -> None:
        self._socket = socket
        self._named: set[int] = set()

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES_MAX):
            await self._socket.send(bytes((_DATA,)) + data[start : start + CHUNK_BYTES_MAX])

    async def finish(self) -> None:
        """There is no more to send; the agent reads the end, and may still answer."""
        await self._socket.send(bytes((_DATA,)))

    async def receive(self) -> bytes:
        """What the agent has sent; empty once it has closed the connection.

        Raises:
            Temporary: there is no connection, or none any more; the message says why.
        """
        while (message := await self._socket.receive()) is not None:
            if not message:
                continue
            channel, data = message[0], message[1:]
            if channel not in self._named:
                self._named.add(channel)
            elif channel == _ERROR:
                raise Temporary(data.decode(errors="replace"))
            elif data:
                return data
        return b""
