"""The contract of `CallTransport`, over every backend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from choregos.foundation.errors import CallCancelled, DeadlineExceeded, HostLost, Unavailable
from choregos.messaging.transport import CallTransport

OpenTransport = Callable[[], Awaitable[CallTransport]]


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> str:
    """Of this test alone: the server is shared."""
    return "c.test." + str(abs(hash(request.node.nodeid)))


class Echo:
    """Serves a subject and answers each request with itself, unless told to keep silent."""

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
            task = asyncio.get_running_loop().create_task(self.transport.publish(reply, b"re:" + payload))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def wait_for(self, messages: int) -> None:
        async with asyncio.timeout(5):
            while len(self.received) < messages:
                self.arrival.clear()
                await self.arrival.wait()


async def test_a_request_is_answered_by_another_connection(open_transport: OpenTransport, subject: str) -> None:
    server, client = await open_transport(), await open_transport()
    await server.serve(subject, Echo(server).on_message)
    assert await client.request(subject, b"hello", 5) == b"re:hello"


async def test_many_requests_at_once_each_get_their_own_reply(open_transport: OpenTransport, subject: str) -> None:
    server, client = await open_transport(), await open_transport()
    await server.serve(subject, Echo(server).on_message)
    payloads = [b"%d" % number for number in range(500)]
    replies = await asyncio.gather(*(client.request(subject, payload, 10) for payload in payloads))
    assert replies == [b"re:" + payload for payload in payloads]


async def test_nobody_listening_is_told_at_once(open_transport: OpenTransport, subject: str) -> None:
    client = await open_transport()
    with pytest.raises(Unavailable, match="nobody listens"):
        await client.request(subject, b"hello", 60)


async def test_a_closed_subscription_listens_no_more(open_transport: OpenTransport, subject: str) -> None:
    server, client = await open_transport(), await open_transport()
    close = await server.serve(subject, Echo(server).on_message)
    assert await client.request(subject, b"", 5) == b"re:"
    await close()
    with pytest.raises(Unavailable):
        await client.request(subject, b"hello", 5)


async def test_silence_ends_at_the_deadline(open_transport: OpenTransport, subject: str) -> None:
    server, client = await open_transport(), await open_transport()
    echo = Echo(server)
    echo.silent = True
    await server.serve(subject, echo.on_message)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        await client.request(subject, b"hello", 0.05)
    assert loop.time() - began >= 0.05


async def test_a_late_reply_is_ignored(open_transport: OpenTransport, subject: str) -> None:
    server, client = await open_transport(), await open_transport()
    echo = Echo(server)
    echo.silent = True
    await server.serve(subject, echo.on_message)
    with pytest.raises(DeadlineExceeded):
        await client.request(subject, b"first", 0.02)
    await echo.wait_for(1)
    await server.publish(echo.received[0][1], b"too late")
    echo.silent = False
    assert await client.request(subject, b"second", 5) == b"re:second"


async def test_a_cancelled_request_says_farewell(open_transport: OpenTransport, subject: str) -> None:
    server, client = await open_transport(), await open_transport()
    echo = Echo(server)
    echo.silent = True
    await server.serve(subject, echo.on_message)
    waiting = asyncio.ensure_future(client.request(subject, b"hello", 60, lambda reply: b"bye " + reply.encode()))
    await echo.wait_for(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await echo.wait_for(2)
    assert echo.received[1] == (b"bye " + echo.received[0][1].encode(), "")


async def test_a_failing_listener_does_not_end_the_connection(
    open_transport: OpenTransport, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, client = await open_transport(), await open_transport()
    echo = Echo(server)

    def fails_first(payload: bytes, reply: str) -> None:
        if payload == b"bad":
            raise ValueError("bad")
        echo.on_message(payload, reply)

    await server.serve(subject, fails_first)
    await client.publish(subject, b"bad")
    assert await client.request(subject, b"good", 5) == b"re:good"
    assert "failed" in caplog.text


async def test_requests_to_who_is_gone_are_abandoned_and_others_go_on(
    open_transport: OpenTransport, subject: str
) -> None:
    server, client = await open_transport(), await open_transport()
    echo = Echo(server)
    echo.silent = True
    await server.serve(subject, echo.on_message)
    waiting = asyncio.ensure_future(client.request(subject, b"hello", 60))
    await echo.wait_for(1)
    client.abandon(lambda asked: asked != subject)
    client.abandon(lambda asked: asked == subject)
    with pytest.raises(HostLost, match="may have begun"):
        await waiting
    echo.silent = False
    assert await client.request(subject, b"again", 5) == b"re:again"


async def test_closing_ends_the_requests_under_way(open_transport: OpenTransport, subject: str) -> None:
    server, client = await open_transport(), await open_transport()
    echo = Echo(server)
    echo.silent = True
    await server.serve(subject, echo.on_message)
    waiting = asyncio.ensure_future(client.request(subject, b"hello", 60))
    await echo.wait_for(1)
    await client.close()
    with pytest.raises(CallCancelled):
        await waiting
    with pytest.raises(Unavailable):
        await client.request(subject, b"hello", 60)
