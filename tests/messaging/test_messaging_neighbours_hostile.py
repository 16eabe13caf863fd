"""Neighbours that send nonsense, stop reading, or never speak: they are cut off, the others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from neighbour_world import PATIENCE_S, SUBJECT, Raw, World

from choregos.foundation.errors import DeadlineExceeded, HostLost
from choregos.messaging.backends import neighbour_links, neighbours
from choregos.messaging.backends.neighbour_frames import GREETING, frame
from choregos.messaging.backends.outflow import BUFFER_BYTES_MAX


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path / "sockets") as world:
        yield world


async def linger(raw: Raw) -> None:
    """Does not even read."""
    await asyncio.get_running_loop().create_future()


# Those who ask


@pytest.mark.parametrize(
    "nonsense",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\xff" * 4096, (2**32 - 1).to_bytes(4, "big") + bytes(8)],
)
async def test_who_sends_no_frames_is_cut_off(world: World, nonsense: bytes) -> None:
    await world.serve()
    client = await world.open()
    raw = await world.connect()
    raw.write(nonsense)
    await raw.until_closed()
    assert await client.request(SUBJECT, b"hello", 20) == b"re:hello"


@pytest.mark.parametrize("after", ["silence", "end"])
async def test_half_a_frame_hurts_nobody(world: World, after: str) -> None:
    echo, _ = await world.serve()
    raw = await world.connect()
    raw.write(frame(1, b"whole"), frame(2, b"half")[:-1])
    await echo.until(1)
    if after == "end":
        await raw.close()
    assert await (await world.open()).request(SUBJECT, b"hello", 20) == b"re:hello"
    assert [payload for payload, _ in echo.received] == [b"whole", b"hello"]


async def test_who_reads_no_answers_is_not_read_and_then_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_links, "STALLED_S", 0.2)
    echo, _ = await world.serve()
    raw = await world.connect()
    flood = 400
    raw.write(*(frame(number, b"x" * 50_000) for number in range(1, flood)))
    client = await world.open()
    assert await client.request(SUBJECT, b"hello", 20) == b"re:hello"
    async with asyncio.timeout(PATIENCE_S):
        while not raw.writer.transport.is_closing():
            await asyncio.sleep(0.01)
    assert sum(len(payload) for payload, _ in echo.received) < 4 * BUFFER_BYTES_MAX
    assert await client.request(SUBJECT, b"hello", 20) == b"re:hello"


async def test_who_reads_late_gets_every_answer(world: World) -> None:
    await world.serve()
    raw = await world.connect()
    raw.write(*(frame(number, b"%d" % number + b"x" * 50_000) for number in range(1, 101)))
    assert (await raw.frame())[0] == 0
    answers = [await raw.frame() for _ in range(100)]
    assert answers == [(number, b"re:%d" % number + b"x" * 50_000) for number in range(1, 101)]


async def test_numbers_may_be_any(world: World) -> None:
    await world.serve()
    raw = await world.connect()
    await raw.frame()
    for number in (2**64 - 1, 5, 5):
        raw.write(frame(number, b"hello"))
        assert await raw.frame() == (number, b"re:hello")


# Those who are asked


@pytest.mark.parametrize(
    "greeting", [b"", b"SSH-2.0", GREETING + b"x" * 1000, GREETING.replace(b"1", b"2")], ids=lambda g: g[:20].decode()
)
async def test_who_does_not_greet_as_we_do_is_asked_over_the_bus(
    world: World, monkeypatch: pytest.MonkeyPatch, greeting: bytes
) -> None:
    monkeypatch.setattr(neighbours, "OPEN_TIMEOUT_S", 0.1)
    echo, _ = await world.serve()
    await world.pretend(linger, greeting=greeting)  # in the place of the real one's socket
    assert await (await world.open()).request(SUBJECT, b"hello", 20) == b"re:hello"
    assert echo.received[0][1].startswith("_INBOX")


async def test_who_answers_with_nonsense_ends_what_waits_for_it(world: World) -> None:
    async def answer(raw: Raw) -> None:
        await raw.frame()
        raw.write(b"\xff" * 100)
        await raw.until_closed()

    await world.pretend(answer)
    client = await world.open()
    with pytest.raises(HostLost):
        await client.request(SUBJECT, b"hello", 60)


async def test_answers_nobody_asked_for_are_ignored(world: World) -> None:
    async def answer(raw: Raw) -> None:
        number, payload = await raw.frame()
        raw.write(frame(number + 1, b"not asked"), frame(number, payload), frame(number, b"again"))
        await raw.until_closed()

    await world.pretend(answer)
    assert await (await world.open()).request(SUBJECT, b"hello", 20) == b"hello"


async def test_who_is_blocked_is_waited_for_until_the_deadline(world: World) -> None:
    await world.pretend(linger)
    client = await world.open()
    large = b"x" * 500_000
    waiting = [asyncio.ensure_future(client.request(SUBJECT, large, 0.3)) for _ in range(12)]
    patient = asyncio.ensure_future(client.request(SUBJECT, large, 60))
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, DeadlineExceeded)
        assert str(outcome) == "no answer within 0.3 s"
    patient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await patient
