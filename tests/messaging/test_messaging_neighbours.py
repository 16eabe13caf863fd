"""Calls from socket to socket: that they are, what ends them, and when the bus is asked instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
from neighbour_world import SUBJECT, Raw, World

from choregos.foundation.bus.address import MESSAGE_BYTES_MAX
from choregos.foundation.errors import HostLost, PayloadTooLarge, Unavailable
from choregos.messaging import neighbourhood
from choregos.messaging.backends import neighbour_links, neighbours
from choregos.messaging.backends.neighbour_frames import frame, last_taken


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path / "sockets") as world:
        yield world


def test_they_run_on_the_event_loop_of_workers_in_a_deep_directory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path / ("deep" * 30) / ("deeper" * 30)) as world:
            await world.serve()
            client = await world.open()
            world.bus.reachable = False
            assert await client.request(SUBJECT, b"x" * 1_000_000, 20) == b"re:" + b"x" * 1_000_000

    uvloop.run(scenario())


# Which way


async def test_neighbours_need_no_bus(world: World) -> None:
    echo, _ = await world.serve()
    client = await world.open()
    world.bus.reachable = False
    replies = await asyncio.gather(*(client.request(SUBJECT, b"%d" % n, 20) for n in range(200)))
    assert replies == [b"re:%d" % n for n in range(200)]
    assert len(echo.received) == 200


async def test_who_has_no_socket_is_asked_over_the_bus(world: World) -> None:
    echo, _ = await world.serve()
    for name in world.files:
        (world.directory / name).unlink()
    assert await (await world.open()).request(SUBJECT, b"hello", 20) == b"re:hello"
    assert echo.received[0][1].startswith("_INBOX")


async def test_who_left_its_socket_behind_is_asked_over_the_bus(world: World) -> None:
    world.neighbourhood.bind(SUBJECT).close()
    client = await world.open()
    with pytest.raises(Unavailable, match="nobody listens"):
        await client.request(SUBJECT, b"hello", 20)
    assert len(world.files) == 1


async def test_a_directory_that_cannot_be_used_leaves_the_bus(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.directory.rmdir()
    await world.serve()
    assert await (await world.open()).request(SUBJECT, b"hello", 20) == b"re:hello"
    assert "go over the bus" in caplog.text


async def test_a_place_for_no_sockets_leaves_the_bus(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("this file system has no sockets")

    monkeypatch.setattr(neighbourhood.Neighbourhood, "bind", refused)
    await world.serve()
    assert await (await world.open()).request(SUBJECT, b"hello", 20) == b"re:hello"
    assert "no sockets" in caplog.text


async def test_another_user_is_refused_and_is_asked_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    echo, _ = await world.serve()
    client = await world.open()
    monkeypatch.setattr(neighbour_links, "is_ours", lambda _: False)
    await (await world.connect()).until_closed()
    assert await client.request(SUBJECT, b"hello", 20) == b"re:hello"
    assert echo.received[0][1].startswith("_INBOX")


async def test_only_so_many_are_served_by_socket(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "ACCEPTED_MAX", 1)
    echo, _ = await world.serve()
    for client in (await world.open(), await world.open()):
        assert await client.request(SUBJECT, b"hello", 20) == b"re:hello"
    assert [reply.startswith("_INBOX") for _, reply in echo.received] == [False, True]


async def test_only_so_many_are_asked_by_socket(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "OPENED_MAX", 1)
    client = await world.open()
    ways = []
    for subject in ("c.a", "c.b"):
        echo, _ = await world.serve(subject)
        await client.request(subject, b"hello", 20)
        ways.append(echo.received[0][1].startswith("_INBOX"))
    assert ways == [False, True]


async def test_a_connection_that_nobody_uses_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "IDLE_S", 0.02)
    closed = asyncio.Event()

    async def answer(raw: Raw) -> None:
        number, payload = await raw.frame()
        raw.write(frame(number, payload))
        await raw.until_closed()
        closed.set()

    await world.pretend(answer)
    client = await world.open()
    assert await client.request(SUBJECT, b"first", 20) == b"first"
    await asyncio.wait_for(closed.wait(), 20)
    assert await client.request(SUBJECT, b"second", 20) == b"second"


# Files


async def test_there_is_a_socket_while_it_is_served(world: World) -> None:
    for _ in range(2):
        _, close = await world.serve()
        assert world.files == [neighbourhood.socket_name(SUBJECT)]
        await close()
        assert world.files == []


async def test_the_socket_of_one_that_was_killed_is_replaced(world: World) -> None:
    world.neighbourhood.bind(SUBJECT).close()
    await world.serve()
    client = await world.open()
    world.bus.reachable = False
    assert await client.request(SUBJECT, b"hello", 20) == b"re:hello"


async def test_the_directory_is_private_and_begins_empty(tmp_path: Path) -> None:
    directory = tmp_path / "sockets"
    directory.mkdir(mode=0o755)
    (directory / "left").touch()
    neighbourhood.prepare(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert list(directory.iterdir()) == []
    (directory / "left").touch()
    neighbourhood.discard(directory)
    assert not directory.exists()


async def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    async with World(tmp_path / "sockets") as world:
        await world.serve()
        await (await world.open()).request(SUBJECT, b"hello", 20)
    for _ in range(3):  # transports close in the turn after
        await asyncio.sleep(0)
    assert set(Path("/proc/self/fd").iterdir()) - before == set()


# Ends


async def test_who_dies_during_a_call_is_noticed_at_once_and_not_asked_again(world: World) -> None:
    asked = []

    async def answer(raw: Raw) -> None:
        asked.append(await raw.frame())

    await world.pretend(answer)
    client = await world.open()
    with pytest.raises(HostLost, match="may have begun"):
        await client.request(SUBJECT, b"hello", 60)
    assert len(asked) == 1


async def test_who_was_killed_and_comes_back_is_found(world: World) -> None:
    async def answer(raw: Raw) -> None:
        await raw.frame()

    await world.pretend(answer)
    client = await world.open()
    with pytest.raises(HostLost):
        await client.request(SUBJECT, b"hello", 60)
    echo, _ = await world.serve()
    assert await client.request(SUBJECT, b"hello", 20) == b"re:hello"
    assert not echo.received[0][1].startswith("_INBOX")


async def test_who_leaves_still_answers_what_it_took(world: World) -> None:
    echo, close = await world.serve()
    echo.silent = True
    client = await world.open()
    waiting = asyncio.ensure_future(client.request(SUBJECT, b"hello", 60))
    await echo.until(1)
    await close()
    with pytest.raises(Unavailable):
        await client.request(SUBJECT, b"too late", 60)
    assert len(echo.received) == 1
    await echo.transport.publish(echo.received[0][1], b"at last")
    assert await waiting == b"at last"


async def test_what_was_not_taken_by_who_leaves_did_not_begin(world: World) -> None:
    async def answer(raw: Raw) -> None:
        first, _ = await raw.frame()
        await raw.frame()
        raw.write(last_taken(first))
        raw.write(frame(first, b"done"))
        await raw.until_closed()

    await world.pretend(answer)
    client = await world.open()
    first, second = (asyncio.ensure_future(client.request(SUBJECT, payload, 60)) for payload in (b"1", b"2"))
    with pytest.raises(Unavailable, match="takes no more"):
        await second
    assert await first == b"done"


async def test_closing_ends_what_is_asked_either_way(world: World) -> None:
    echo, _ = await world.serve()
    echo.silent = True
    client = await world.open()
    by_socket = asyncio.ensure_future(client.request(SUBJECT, b"1", 60))
    await echo.until(1)
    await echo.transport.close()
    with pytest.raises(HostLost):
        await by_socket


# Replies


async def test_a_reply_to_who_is_gone_is_lost_without_an_error(world: World) -> None:
    echo, _ = await world.serve()
    echo.silent = True
    raw = await world.connect()
    raw.write(frame(1, b"hello"))
    await echo.until(1)
    await raw.close()
    reply = echo.received[0][1]
    for _ in range(3):
        await echo.transport.publish(reply, b"into the void")
        await asyncio.sleep(0)
    await echo.transport.publish(reply.replace(".1", ".2"), b"into the void")


async def test_both_ways_take_the_same_size(world: World) -> None:
    await world.serve()
    client = await world.open()
    assert len(await client.request(SUBJECT, b"x" * (MESSAGE_BYTES_MAX - 3), 20)) == MESSAGE_BYTES_MAX
    with pytest.raises(PayloadTooLarge, match="1,179,648"):
        await client.request(SUBJECT, b"x" * (MESSAGE_BYTES_MAX + 1), 20)
    assert await client.request(SUBJECT, b"hello", 20) == b"re:hello"
