"""Work in the event loop takes no more of it than everything else does, and is done in the order in which it came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from choregos.api.sharing.light_work import ROUND_S, SAVED_S_MAX, LightWork
from choregos.testing import SimClock


class Hands(SimClock):
    """A clock that moves only when it is set forward, as work does."""

    def takes(self, seconds: float) -> None:
        self._now += seconds


class Rounds:
    """Counts the rounds of the event loop while the context lasts; each takes some time of other things."""

    def __init__(self, clock: Hands, other_s: float = 0.0) -> None:
        self.number = 0
        self._clock = clock
        self._other_s = other_s

    async def count(self) -> None:
        while True:
            self.number += 1
            self._clock.takes(self._other_s)
            await asyncio.sleep(0)


async def rounds_of(pieces: int, each_s: float, other_s: float = 0.0) -> list[int]:
    """In which round each of these pieces of work is done, all asked for at once."""
    clock = Hands()
    light, rounds, done = LightWork(clock), Rounds(clock, other_s), list[int]()

    def work() -> None:
        clock.takes(each_s)
        done.append(rounds.number)

    counting = asyncio.ensure_future(rounds.count())
    await asyncio.gather(*(light.do("one", work) for _ in range(pieces)))
    counting.cancel()
    return done


async def test_what_has_been_saved_is_done_at_once() -> None:
    assert await rounds_of(5, SAVED_S_MAX / 5) == [1] * 5


async def test_long_work_leaves_others_rounds_in_proportion() -> None:
    first, second, third = await rounds_of(3, 20 * ROUND_S + SAVED_S_MAX)
    assert second - first >= 19
    assert third - second >= 19


async def test_it_takes_no_more_of_a_round_than_others_do() -> None:
    done = await rounds_of(40, 0.001, other_s=0.002)
    per_round = [done.count(number) for number in range(done[0] + 1, done[-1])]
    assert max(per_round) <= 3
    assert sum(per_round) / len(per_round) == pytest.approx(2.3, abs=0.3)


async def test_a_long_time_without_work_is_not_saved_up() -> None:
    clock = Hands()
    light = LightWork(clock)
    clock.takes(3600)
    order: list[str] = []

    def work(name: str, seconds: float) -> Callable[[], None]:
        def do() -> None:
            clock.takes(seconds)
            order.append(name)

        return do

    await asyncio.gather(
        light.do("one", work("long", 2 * SAVED_S_MAX)), light.do("one", work("waits", 0)), _note(order, "other")
    )
    assert order == ["long", "other", "waits"]


async def _note(order: list[str], name: str) -> None:
    order.append(name)


async def test_flows_have_a_piece_done_in_turns() -> None:
    clock = Hands()
    light, order = LightWork(clock), list[str]()

    def work(flow: str) -> Callable[[], None]:
        def do() -> None:
            clock.takes(SAVED_S_MAX * 2)
            order.append(flow)

        return do

    flows = ["first", *["flood"] * 4, "a", "b"]
    await asyncio.gather(*(light.do(flow, work(flow)) for flow in flows))
    assert order == ["first", "flood", "a", "b", "flood", "flood", "flood"]


async def test_whatever_work_raises_the_next_is_done() -> None:
    clock = Hands()
    light = LightWork(clock)

    def stop() -> None:
        clock.takes(SAVED_S_MAX * 2)
        raise StopIteration

    first, second, third = await asyncio.gather(
        light.do("one", lambda: clock.takes(SAVED_S_MAX * 2)),
        light.do("one", stop),
        light.do("one", lambda: 3),
        return_exceptions=True,
    )
    assert (first, third) == (None, 3)
    assert isinstance(second, RuntimeError)


async def test_the_order_is_kept_and_who_has_gone_is_left_out() -> None:
    clock = Hands()
    light, order = LightWork(clock), list[int]()

    def work(number: int) -> Callable[[], int]:
        def do() -> int:
            clock.takes(SAVED_S_MAX * 2)
            order.append(number)
            if number == 3:
                raise ValueError("no")
            return number

        return do

    tasks = [asyncio.ensure_future(light.do("one", work(number))) for number in range(6)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 1, 3, 4, 5]
    assert [result for result in results if isinstance(result, int)] == [0, 1, 4, 5]
    assert isinstance(results[2], asyncio.CancelledError)
    assert isinstance(results[3], ValueError)
