"""How a connection behaves towards servers that misbehave: plain sockets that answer as each test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from choregos.client.connection import Connection
from choregos.foundation.errors import ChoregosError, DeadlineExceeded, Invalid, Permanent, Temporary
from choregos.foundation.tasks import Tasks
from choregos.security.kubeconfig import ApiAccess, load_kubeconfig
from choregos.testing.served_api import ServedApi

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ONE = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"


@asynccontextmanager
async def connected(serve: Serve) -> AsyncIterator[Connection]:
    """A connection to a server that handles each of its sockets with `serve`, then closes it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    connection = Connection(ApiAccess(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    try:
        yield connection
    finally:
        await connection.close()
        server.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "gave no answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "gave no answer: illegal"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc", "broke off its answer"),
    ],
)
async def test_an_answer_that_is_none_is_temporary(answer: bytes, message: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)

    async with connected(serve) as connection:
        with pytest.raises(Temporary, match=message):
            await connection.request("GET", "/x")


async def test_silence_ends_at_the_deadline() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with connected(serve) as connection:
        with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
            await connection.request("GET", "/x", timeout_s=0.05)


@pytest.mark.parametrize(("method", "repeated"), [("GET", True), ("POST", False), ("DELETE", False)])
async def test_only_a_get_is_sent_again_when_a_kept_connection_ends(method: str, repeated: bool) -> None:
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the first request of each socket; closes it at the second."""
        nonlocal requests
        for answer in (ONE, b""):
            await read_request(reader)
            requests += 1
            writer.write(answer)

    async with connected(serve) as connection:
        assert await connection.request(method, "/x") == 1
        if repeated:
            assert await connection.request(method, "/x") == 1
        else:
            with pytest.raises(Temporary, match="gave no answer"):
                await connection.request(method, "/x")
    assert requests == (3 if repeated else 2)


async def test_a_get_is_sent_twice_at_most() -> None:
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1

    async with connected(serve) as connection:
        with pytest.raises(Temporary):
            await connection.request("GET", "/x")
    assert requests == 2


async def test_lines_come_whole_however_they_are_cut() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for piece in (b"on", b"e\ntwo\nth", b"ree"):
            writer.write(piece)
            await writer.drain()

    async with connected(serve) as connection:
        lines = connection.lines("/x", {}, silence_s_max=10)
        assert [line async for line in lines] == [b"one", b"two", b"three"]


async def test_closing_ends_streams_that_are_open() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none\n")
        await reader.read()

    async with connected(serve) as connection, Tasks() as tasks:
        lines = connection.lines("/x", {}, silence_s_max=None)
        assert await anext(lines) == b"one"

        async def rest() -> str:
            try:
                return (await anext(lines)).decode()
            except ChoregosError as error:
                return str(error)

        waiting = tasks.start(rest(), "rest")
        await asyncio.sleep(0)
        await connection.close()
        assert "broke off its answer" in await waiting


async def test_the_server_may_be_expected_under_another_name(api: ServedApi) -> None:
    access = load_kubeconfig([api.kubeconfig])
    parts = (access.authority_pem, access.certificate_pem, access.key_pem)
    for name, known in (("localhost", True), ("elsewhere.example", False)):
        connection = Connection(ApiAccess(api.url, *parts, server_name=name))
        try:
            if known:
                assert (await connection.request("GET", "/version"))["gitVersion"]
            else:
                with pytest.raises(Permanent, match="is not the one of this kubeconfig"):
                    await connection.request("GET", "/version")
        finally:
            await connection.close()


async def test_a_token_that_is_no_header_is_invalid() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    connection = Connection(ApiAccess(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", token="one\ntwo"))
    with pytest.raises(Invalid, match="cannot be sent"):
        await connection.request("GET", "/x")
    await connection.close()
    server.close()
