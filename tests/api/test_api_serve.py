from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from choregos.api import connections
from choregos.api import serve as serving_module
from choregos.api.connections import HEAD_BYTES_MAX, HEADERS_MAX, PIPELINED_MAX
from choregos.api.serve import ServeSettings, Serving, serve
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Permanent
from choregos.security.pki import ADMINISTRATORS, Authority

pytestmark = pytest.mark.real

NODES = "/apis/choregos.dev/v1/agentnodes"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "pki", SystemClock())


@pytest.fixture
def settings(authority: Authority) -> ServeSettings:
    server = authority.server(["127.0.0.1"])
    return ServeSettings(server.path, server.path, authority.certificate_path)


@pytest.fixture
async def serving(world: Any, settings: ServeSettings) -> AsyncIterator[Serving]:
    async with serve(world.app, settings) as serving:
        yield serving


def context_of(authority: Authority, user: str = "", groups: tuple[str, ...] = ()) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate_path))
    if user:
        identity = authority.client(user, list(groups))
        context.load_cert_chain(identity.path, identity.path)
    return context


async def exchange(serving: Serving, context: ssl.SSLContext, request: bytes) -> bytes:
    """Sends a request on a new connection and returns the answer up to the end of its head."""
    reader, writer = await asyncio.open_connection(serving.host, serving.port, ssl=context)
    with closing(writer):
        writer.write(request)
        async with asyncio.timeout(10):
            return await reader.readuntil(b"\r\n\r\n")


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


async def test_the_certificate_is_the_user(serving: Serving, authority: Authority) -> None:
    await _certificates_are_users(serving, authority)


def test_the_certificate_is_the_user_on_uvloop_too(
    open_world: Any, settings: ServeSettings, authority: Authority
) -> None:
    async def scenario() -> None:
        async with open_world() as world, serve(world.app, settings) as serving:
            await _certificates_are_users(serving, authority)

    uvloop.run(scenario())


async def _certificates_are_users(serving: Serving, authority: Authority) -> None:
    admin = context_of(authority, "admin", ("team", "system:masters"))
    assert b"200 OK" in await exchange(serving, admin, get(NODES))
    other = context_of(authority, "eve", ("team",))
    assert b"403 Forbidden" in await exchange(serving, other, get(NODES))


async def test_who_shows_neither_certificate_nor_token_is_told_nothing(serving: Serving, authority: Authority) -> None:
    for path in ("/healthz", "/version", "/apis", NODES, "/nowhere"):
        answer = await exchange(serving, context_of(authority), get(path))
        assert b" 401 " in answer.splitlines()[0], path


async def test_the_record_names_the_address_of_the_connection_and_none_that_is_claimed(
    world: Any, serving: Serving, authority: Authority
) -> None:
    head = f"GET {NODES} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\n\r\n".encode()
    assert b" 403 " in await exchange(serving, context_of(authority, "eve"), head)
    assert world.context.audit.events[-1]["sourceIPs"] == ["127.0.0.1"]


async def test_the_handshake_refuses_certificates_of_others(
    serving: Serving, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority.open(tmp_path / "elsewhere", SystemClock()).client("admin", ["system:masters"])
    context = context_of(authority)
    context.load_cert_chain(stranger.path, stranger.path)
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await exchange(serving, context, get("/healthz"))


async def test_plain_http_is_not_spoken(serving: Serving) -> None:
    reader, writer = await asyncio.open_connection(serving.host, serving.port)
    writer.write(get("/healthz"))
    with suppress(ConnectionError):
        assert b"200" not in await reader.read()
    writer.close()


async def test_a_large_body_is_refused_over_the_wire(serving: Serving, authority: Authority) -> None:
    admin = context_of(authority, "admin", ("system:masters",))
    head = f"POST {NODES} HTTP/1.1\r\nhost: x\r\ncontent-length: {4 * 1024 * 1024}\r\n\r\n".encode()
    assert b"413" in (await exchange(serving, admin, head)).splitlines()[0]


async def test_an_open_watch_does_not_hold_up_the_end(
    world: Any, settings: ServeSettings, authority: Authority
) -> None:
    async with AsyncExitStack() as stack:
        serving = await stack.enter_async_context(serve(world.app, settings))
        admin = context_of(authority, "admin", ("system:masters",))
        reader, writer = await asyncio.open_connection(serving.host, serving.port, ssl=admin)
        writer.write(get(f"{NODES}?watch=true"))
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(2.5):  # less than the time after which requests are cancelled
            await stack.aclose()
        assert (await reader.read()).endswith(b"0\r\n\r\n")
        writer.close()


async def test_an_idle_connection_does_not_hold_up_the_end(
    world: Any, settings: ServeSettings, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        serving = await stack.enter_async_context(serve(world.app, settings))

        def connect_and_read_no_more() -> ssl.SSLSocket:
            admin = context_of(authority, "admin", ("system:masters",))
            plain = socket.create_connection((serving.host, serving.port), timeout=10)
            idle = admin.wrap_socket(plain, server_hostname=serving.host)
            idle.sendall(get(NODES))
            assert idle.recv(15) == b"HTTP/1.1 200 OK"
            return idle

        with closing(await asyncio.to_thread(connect_and_read_no_more)):
            await stack.aclose()
    assert "timeout graceful shutdown exceeded" not in caplog.text


async def test_a_port_that_is_taken_is_a_clear_error(world: Any, settings: ServeSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Permanent, match=f"cannot listen on 127.0.0.1:{port}.*another port"):
            async with serve(
                world.app, ServeSettings(settings.certificate, settings.key, settings.client_ca, port=port)
            ):
                pass


async def test_a_missing_certificate_is_a_clear_error(world: Any, settings: ServeSettings, tmp_path: Path) -> None:
    missing = ServeSettings(tmp_path / "none.pem", settings.key, settings.client_ca)
    with pytest.raises(Permanent, match=r"none\.pem"):
        async with serve(world.app, missing):
            pass


@pytest.mark.parametrize("piece", [b"a", b"a: b\r\n", b"a:" + b"b" * 1000 + b"\r\n"])
async def test_a_head_that_does_not_end_is_refused(serving: Serving, authority: Authority, piece: bytes) -> None:
    reader, writer = await asyncio.open_connection(serving.host, serving.port, ssl=context_of(authority))
    sent = 0
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        answer = group.create_task(until_the_end(reader))
        writer.write(b"GET / HTTP/1.1\r\n")
        while not answer.done() and sent < 64 * HEAD_BYTES_MAX:
            with suppress(ConnectionError):
                writer.write(piece * (4096 // len(piece)))
                await writer.drain()
            sent += 4096
            await asyncio.sleep(0)
        writer.close()
    assert sent < 64 * HEAD_BYTES_MAX
    assert answer.result() in (b"", b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


@pytest.mark.parametrize(("headers", "code"), [(HEADERS_MAX, b" 200 "), (HEADERS_MAX + 1, b" 431 ")])
async def test_so_many_headers_and_no_more(serving: Serving, authority: Authority, headers: int, code: bytes) -> None:
    head = f"GET {NODES} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n".encode() + b"a:\r\n" * (headers - 2) + b"\r\n"
    reader, writer = await asyncio.open_connection(
        serving.host, serving.port, ssl=context_of(authority, "admin", (ADMINISTRATORS,))
    )
    with closing(writer):
        writer.write(head)
        async with asyncio.timeout(20):
            answered = await until_the_end(reader)
    assert answered.startswith(b"HTTP/1.1" + code)
    assert answered.count(b"HTTP/1.1") == 1


async def until_the_end(reader: asyncio.StreamReader) -> bytes:
    """The first line of what the server says before it closes the connection."""
    try:
        return (await reader.read()).partition(b"content-length")[0]
    except ConnectionError:
        return b""  # it was closed while more was on its way, which discards what was said


async def test_a_large_body_is_no_head(serving: Serving, authority: Authority) -> None:
    context = context_of(authority, "admin", (ADMINISTRATORS,))
    body = b" " * (4 * HEAD_BYTES_MAX) + b"{}"
    head = f"POST {NODES} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    assert (await exchange(serving, context, head + body)).startswith(b"HTTP/1.1 422")


@pytest.mark.parametrize("sent", [b"", b"GET / HT"])
async def test_who_sends_no_head_is_cut_off(
    world: Any, settings: ServeSettings, authority: Authority, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    async with serve(world.app, settings) as serving, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(serving.host, serving.port, ssl=context_of(authority))
        with closing(writer):
            writer.write(sent)
            with suppress(ConnectionError):
                assert await reader.read() == b""


CHUNKED = f"POST {NODES} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()


@pytest.mark.parametrize("first", [CHUNKED + b"0\r\n", CHUNKED + b"0\r\ny: ", get(NODES)])
@pytest.mark.parametrize("piece", [b"x: " + b"a" * 1000 + b"\r\n", b"a" * 1000, b"\r\n"])
async def test_what_follows_an_answer_and_is_no_request_has_an_end(
    serving: Serving, authority: Authority, first: bytes, piece: bytes
) -> None:
    reader, writer = await asyncio.open_connection(serving.host, serving.port, ssl=context_of(authority))
    sent = 0
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        writer.write(first)
        answer = group.create_task(until_the_end(reader))
        while not answer.done() and sent < 64 * HEAD_BYTES_MAX:
            with suppress(ConnectionError):
                writer.write(piece * (4096 // len(piece)))
                await writer.drain()
            sent += 4096
            await asyncio.sleep(0)
        writer.close()
    assert sent < 64 * HEAD_BYTES_MAX


@pytest.mark.parametrize("sent", [CHUNKED, CHUNKED + b"0\r\n", get(NODES) + b"\r\n"])
async def test_the_rest_of_what_is_answered_is_not_awaited_for_ever(
    world: Any, settings: ServeSettings, authority: Authority, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "REST_S", 0.3)
    monkeypatch.setattr(serving_module, "KEEP_ALIVE_S", 0.3)
    async with serve(world.app, settings) as serving, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(serving.host, serving.port, ssl=context_of(authority))
        with closing(writer):
            writer.write(sent)
            assert b" 401 " in await reader.readuntil(b"\r\n\r\n")
            with suppress(ConnectionError):
                writer.write(b"\r\n" if sent.startswith(b"GET") else b"")
                await reader.read()


async def test_a_trailer_is_no_header_neither_of_its_request_nor_of_the_next(
    world: Any, settings: ServeSettings, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        asked.append(list(scope["headers"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    app.close = world.app.close  # type: ignore[attr-defined]
    async with serve(app, settings) as serving, asyncio.timeout(20):  # type: ignore[arg-type]
        reader, writer = await asyncio.open_connection(serving.host, serving.port, ssl=context_of(authority))
        with closing(writer):
            writer.write(CHUNKED + b"2\r\n{}\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.write(get("/"))
            await reader.readuntil(b"\r\n\r\n")
    assert asked == [[(b"host", b"x"), (b"transfer-encoding", b"chunked")], [(b"host", b"x")]]


async def test_a_body_that_comes_after_its_answer_leaves_the_connection_open(
    serving: Serving, authority: Authority
) -> None:
    reader, writer = await asyncio.open_connection(serving.host, serving.port, ssl=context_of(authority))
    with closing(writer):
        async with asyncio.timeout(20):
            writer.write(CHUNKED)
            for rest in (b"2\r\n{}\r\n0\r\n\r\n" + get(NODES), b""):
                status, _, head = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
                assert b" 401 " in status
                length = next(line for line in head.splitlines() if line.startswith(b"content-length"))
                await reader.readexactly(int(length.partition(b":")[2]))
                writer.write(rest)


async def test_not_too_many_requests_come_before_an_answer_and_their_end_is_that_of_the_first(
    world: Any, serving: Serving, authority: Authority
) -> None:
    admin = context_of(authority, "admin", (ADMINISTRATORS,))
    reader, writer = await asyncio.open_connection(serving.host, serving.port, ssl=admin)
    with closing(writer):
        async with asyncio.timeout(20):
            writer.write(get(f"{NODES}?watch=true"))
            await reader.readuntil(b"\r\n\r\n")
            assert world.app._streams._flows
            writer.write(get(NODES) * (PIPELINED_MAX + 1))
            with suppress(ConnectionError):
                await reader.read()
            while world.app._streams._flows:
                await asyncio.sleep(0)


async def test_a_few_requests_may_come_before_an_answer(serving: Serving, authority: Authority) -> None:
    admin = context_of(authority, "admin", (ADMINISTRATORS,))
    reader, writer = await asyncio.open_connection(serving.host, serving.port, ssl=admin)
    with closing(writer):
        writer.write(get(NODES) * (PIPELINED_MAX + 1))
        async with asyncio.timeout(20):
            for _ in range(PIPELINED_MAX + 1):
                head = await reader.readuntil(b"\r\n\r\n")
                assert b" 200 " in head.partition(b"\r\n")[0]
                length = next(line for line in head.splitlines() if line.startswith(b"content-length"))
                await reader.readexactly(int(length.partition(b":")[2]))


@pytest.mark.parametrize("upgrade", ["SPDY/3.1", "h2c"])
async def test_an_upgrade_to_what_is_not_served_is_answered_and_nothing_to_log(
    serving: Serving, authority: Authority, caplog: pytest.LogCaptureFixture, upgrade: str
) -> None:
    head = f"GET {NODES} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\r\n".encode()
    assert b" 200 " in await exchange(serving, context_of(authority, "admin", (ADMINISTRATORS,)), head)
    assert not caplog.records


async def test_the_log_says_before_that_descriptors_come_to_an_end(
    world: Any, settings: ServeSettings, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as newest:
        limit = newest.fileno() + connections.DESCRIPTORS_LEFT + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    opened = []
    try:
        async with serve(world.app, settings) as serving, AsyncExitStack() as stack:
            for number in range(20):
                assert number > 2 or not caplog.records
                opened.append(await asyncio.open_connection(serving.host, serving.port, ssl=context_of(authority)))
                stack.callback(opened[-1][1].close)
            [record] = caplog.records
            assert record.getMessage().startswith(f"almost all of {limit} descriptors are taken")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("query", ["", "?watch=true"])
async def test_who_takes_nothing_of_its_answer_is_cut_off(
    world: Any, settings: ServeSettings, authority: Authority, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.setattr(connections, "STALL_S", 0.3)
    async with serve(world.app, settings) as serving:
        await _an_unread_answer_ends(world, serving, authority, query)


def test_who_takes_nothing_of_its_answer_is_cut_off_on_uvloop_too(
    open_world: Any, settings: ServeSettings, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STALL_S", 0.3)

    async def scenario() -> None:
        async with open_world() as world, serve(world.app, settings) as serving:
            for query in ("", "?watch=true"):
                await _an_unread_answer_ends(world, serving, authority, query)

    uvloop.run(scenario())


async def _an_unread_answer_ends(world: Any, serving: Serving, authority: Authority, query: str) -> None:
    """Of more than the buffers of two sockets hold."""
    data = {"a": "x" * 900_000}
    for number in range(12):
        await world.client.post(CONFIG_MAPS, {"metadata": {"name": f"c{number}"}, "data": data})
    admin = context_of(authority, "admin", (ADMINISTRATORS,))
    _, writer = await asyncio.open_connection(serving.host, serving.port, ssl=admin, limit=1)
    writer.transport.pause_reading()
    writer.write(get(CONFIG_MAPS + query))
    async with asyncio.timeout(20):
        while not world.app._answers._flows:
            await asyncio.sleep(0)
        while world.app._answers._flows or world.app._streams._flows:
            await asyncio.sleep(0)
    writer.transport.abort()


async def test_who_begins_no_handshake_is_cut_off(
    world: Any, settings: ServeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module, "HANDSHAKE_S", 0.3)
    async with serve(world.app, settings) as serving:
        await _no_handshake_ends(serving)


def test_who_begins_no_handshake_is_cut_off_on_uvloop_too(
    open_world: Any, settings: ServeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module, "HANDSHAKE_S", 0.3)

    async def scenario() -> None:
        async with open_world() as world, serve(world.app, settings) as serving:
            await _no_handshake_ends(serving)

    uvloop.run(scenario())


async def _no_handshake_ends(serving: Serving) -> None:
    for sent in (b"", b"\x16\x03\x01"):
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(serving.host, serving.port)
            with closing(writer):
                writer.write(sent)
                with suppress(ConnectionError):
                    assert await reader.read() == b""
