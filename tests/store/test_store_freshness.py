"""Reads that must not miss what somebody else was told: asked once for all who wait, and never answered too early."""

from __future__ import annotations

import asyncio

import pytest

from choregos.foundation.errors import Temporary
from choregos.store.backends.memory import MemoryLog
from choregos.store.freshness import Freshness
from choregos.store.port import Write
from choregos.testing.sim_clock import SimClock


class SlowLog(MemoryLog):
    """Answers for its newest record when it is let: with what it was when the question came, or not at all."""

    def __init__(self) -> None:
        super().__init__(SimClock())
        self.asked = 0
        self.let: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def newest(self) -> int:
        self.asked += 1
        answer = await super().newest()
        error = await self.let.get()
        if error is not None:
            raise error
        return answer


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_question_under_way_does_not_answer_one_that_came_after_it() -> None:
    log = SlowLog()
    freshness = Freshness(log)
    first = await log.append(Write("a.1", b""))
    early = asyncio.ensure_future(freshness.newest())
    await settle()
    second = await log.append(Write("a.2", b""))
    late = [asyncio.ensure_future(freshness.newest()) for _ in range(50)]
    await settle()
    assert log.asked == 1
    log.let.put_nowait(None)
    assert await early == first
    log.let.put_nowait(None)
    assert await asyncio.gather(*late) == [second] * 50
    assert log.asked == 2
    await freshness.close()


async def test_a_failure_is_told_to_those_who_waited_and_to_nobody_else() -> None:
    log = SlowLog()
    freshness = Freshness(log)
    refused = asyncio.ensure_future(freshness.newest())
    await settle()
    log.let.put_nowait(Temporary("gone"))
    with pytest.raises(Temporary, match="gone"):
        await refused
    log.let.put_nowait(None)
    assert await freshness.newest() == 0
    await freshness.close()


async def test_who_stops_waiting_keeps_nobody_else_from_an_answer() -> None:
    log = SlowLog()
    freshness = Freshness(log)
    impatient, patient = (asyncio.ensure_future(freshness.newest()) for _ in range(2))
    await settle()
    impatient.cancel()
    for _ in range(2):  # tasks that begin at once (Python 3.12) have asked for the first before the second came
        log.let.put_nowait(None)
    assert await patient == 0
    with pytest.raises(asyncio.CancelledError):
        await impatient
    await freshness.close()


async def test_closing_ends_the_waiting() -> None:
    log = SlowLog()
    freshness = Freshness(log)
    waiting = [asyncio.ensure_future(freshness.newest())]
    await settle()
    waiting.append(asyncio.ensure_future(freshness.newest()))
    await settle()
    await freshness.close()
    for each in waiting:
        with pytest.raises(asyncio.CancelledError):
            await each
