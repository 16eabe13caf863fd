"""WebSockets of the client against a peer that speaks the protocol, badly, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import httpcore
import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from choregos.client import sockets
from choregos.client.sockets import AgentPort, ClientSocket
from choregos.foundation.errors import Permanent, Temporary


class Peer:
    """The server's side; also the stream that the client has."""

    def __init__(self) -> None:
        self._protocol = Connection(ConnectionType.SERVER)
        self._bytes: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.fails = False

    def say(self, *events: Any) -> None:
        for event in events:
            self._bytes.put_nowait(self._protocol.send(event))

    def give(self, what: bytes | Exception) -> None:
        self._bytes.put_nowait(what)

    def heard(self) -> list[Any]:
        return list(self._protocol.events())

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        found = await self._bytes.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self.fails:
            raise httpcore.WriteError("gone")
        self._protocol.receive_data(buffer)


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def socket(peer: Peer) -> ClientSocket:
    return ClientSocket(peer)  # type: ignore[arg-type]


async def test_messages_are_whole_however_they_come(peer: Peer, socket: ClientSocket) -> None:
    peer.say(
        BytesMessage(b"one"), BytesMessage(b"tw", message_finished=False), BytesMessage(b"o"), TextMessage("three")
    )
    assert [await socket.receive() for _ in range(3)] == [b"one", b"two", b"three"]
    protocol = Connection(ConnectionType.SERVER)
    for byte in protocol.send(BytesMessage(b"slowly")) + protocol.send(BytesMessage(b"and more")):
        peer.give(bytes((byte,)))
    assert [await socket.receive(), await socket.receive()] == [b"slowly", b"and more"]
    await socket.send(b"answer")
    assert peer.heard() == [BytesMessage(bytearray(b"answer"))]


async def test_pings_are_answered_and_a_close_is_the_end(peer: Peer, socket: ClientSocket) -> None:
    peer.say(Ping(b"alive?"), BytesMessage(b"data"), CloseConnection(1000))
    assert await socket.receive() == b"data"
    assert await socket.receive() is None
    assert await socket.receive() is None
    assert [type(event) for event in peer.heard()] == [Pong, CloseConnection]
    with pytest.raises(Temporary, match="has closed"):
        await socket.send(b"late")


@pytest.mark.parametrize(
    ("given", "error"),
    [(b"HTTP/1.1 500 Oh\r\n\r\n", Permanent), (b"\xff" * 20, Permanent), (httpcore.ReadError(), Temporary)],
)
async def test_what_is_no_message_is_told(peer: Peer, socket: ClientSocket, given: Any, error: type[Exception]) -> None:
    peer.give(given)
    with pytest.raises(error):
        await socket.receive()


async def test_a_stream_that_ends_is_told(peer: Peer, socket: ClientSocket) -> None:
    peer.give(b"")
    with pytest.raises(Temporary, match="ended without a word"):
        await socket.receive()
    assert await socket.receive() is None
    other = Peer()
    other.fails = True
    with pytest.raises(Temporary, match="is lost"):
        await ClientSocket(other).send(b"x")  # type: ignore[arg-type]


async def test_a_message_without_end_is_refused(
    peer: Peer, socket: ClientSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MESSAGE_BYTES_MAX", 10)
    peer.say(BytesMessage(b"x" * 11, message_finished=False))
    with pytest.raises(Permanent, match="too large"):
        await socket.receive()


async def test_a_port_is_one_channel_and_its_errors_another(peer: Peer, socket: ClientSocket) -> None:
    port = AgentPort(socket)
    peer.say(*(BytesMessage(data) for data in (b"\0\x50\0", b"\1\x50\0", b"\0hello", b"", b"\0", b"\0!", b"\1why")))
    assert [await port.receive(), await port.receive()] == [b"hello", b"!"]
    with pytest.raises(Temporary, match="why"):
        await port.receive()
    peer.say(CloseConnection(1000))
    assert await port.receive() == b""


async def test_what_is_sent_is_cut_and_ends_with_an_empty_message(peer: Peer, socket: ClientSocket) -> None:
    port = AgentPort(socket)
    await port.send(b"")
    await port.send(b"x" * (sockets.CHUNK_BYTES_MAX + 1))
    await port.finish()
    assert [len(event.data) - 1 for event in peer.heard()] == [sockets.CHUNK_BYTES_MAX, 1, 0]
