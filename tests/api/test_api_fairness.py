"""Seats: never more than there are, equal shares for those who want more, hardly a wait for those who want little."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from choregos.api.rules.status import Refusal
from choregos.api.sharing.fairness import Fairness, FairnessLimits, flow_of


@pytest.mark.parametrize(
    ("user", "flow"),
    [
        ("ada", "ada"),
        ("system:serviceaccount:team:robot", "team/"),
        ("system:serviceaccount:team:other", "team/"),
        ("team", "team"),
        ("system:node:n1", "system:node:n1"),
    ],
)
def test_accounts_of_a_namespace_are_one_flow(user: str, flow: str) -> None:
    assert flow_of(user) == flow


class Server:
    """Counts what is worked on, and finishes one at a time when it is told to."""

    def __init__(self, seats: int = 4, waiting: int = 1000, wait_s: float = 60.0) -> None:
        self.fairness = Fairness(FairnessLimits(seats, waiting, wait_s))
        self.at_work: list[tuple[str, asyncio.Event]] = []
        self.done: Counter[str] = Counter()
        self.order: list[str] = []

    async def request(self, flow: str, width: int = 1) -> None:
        async with self.fairness.seat(flow, width):
            finished = asyncio.Event()
            entry = (flow, finished)
            self.at_work.append(entry)
            self.order.append(flow)
            try:
                await finished.wait()
            finally:
                self.at_work.remove(entry)
        self.done[flow] += 1

    async def finish(self, number: int = 1) -> None:
        for _, finished in self.at_work[:number]:
            finished.set()
        await turn()


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(server: Server, *flows: tuple[str, int]):
    tasks = [asyncio.ensure_future(server.request(flow)) for flow, count in flows for _ in range(count)]
    await turn()
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_asks_for_little_is_next() -> None:
    server = Server(seats=1)
    async with running(server, ("flood", 500)):
        assert len(server.at_work) == 1
        small = asyncio.ensure_future(server.request("small"))
        await turn()
        await server.finish()
        assert [flow for flow, _ in server.at_work].count("small") == 1
        small.cancel()


async def test_floods_get_equal_shares_whatever_their_size() -> None:
    server = Server(seats=6)
    async with running(server, ("a", 900), ("b", 300), ("c", 300)):
        for _ in range(300):
            await server.finish()
        shares = Counter(flow for flow, _ in server.at_work)
        assert shares == {"a": 2, "b": 2, "c": 2}
        assert max(server.done.values()) - min(server.done.values()) <= 12


async def test_a_flow_is_served_in_the_order_of_its_requests() -> None:
    server = Server(seats=1)
    fairness, order = server.fairness, []

    async def ask(number: int) -> None:
        async with fairness.seat("a"):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(ask(number) for number in range(50)))
    assert order == list(range(50))


async def test_a_wide_request_takes_many_seats_and_is_not_starved_by_narrow_ones() -> None:
    server = Server(seats=16)
    async with running(server, ("narrow", 100), ("other", 100)):
        assert len(server.at_work) == 16
        wide = asyncio.ensure_future(server.request("wide", 99))
        await turn()
        for _ in range(4):
            await server.finish()
        assert Counter(flow for flow, _ in server.at_work)["wide"] == 1
        assert len(server.at_work) == 12 + 1, "a quarter of all seats is the widest"
        wide.cancel()
        await turn()
        assert len(server.at_work) == 16


async def test_beside_any_single_flow_somebody_else_is_seated_at_once() -> None:
    server = Server(seats=16)
    async with running(server, ("flood", 500)):
        assert len(server.at_work) == 12
        for number in range(4):
            asking = asyncio.ensure_future(server.request(f"other-{number}"))
            await turn()
            assert [flow for flow, _ in server.at_work][-1] == f"other-{number}"
        await server.finish(16)
        await asking
        assert len(server.at_work) == 12


async def test_wide_requests_exclude_those_of_their_own_flow_first() -> None:
    server = Server(seats=16)
    wide = [asyncio.ensure_future(server.request("wide", 99)) for _ in range(10)]
    await turn()
    assert len(server.at_work) == 3
    narrow = asyncio.ensure_future(server.request("wide"))
    other = asyncio.ensure_future(server.request("other", 4))
    await turn()
    assert [flow for flow, _ in server.at_work] == ["wide"] * 3 + ["other"]
    while server.at_work:
        await server.finish(5)
    await asyncio.gather(*wide, narrow, other)
    assert server.fairness._free == 16


async def test_who_holds_nothing_goes_before_who_waits_for_more() -> None:
    server = Server(seats=16)
    async with running(server, ("a", 9), ("b", 5)):
        assert len(server.at_work) == 14
        wide = asyncio.ensure_future(server.request("b", 4))
        await turn()
        assert len(server.at_work) == 14
        new = asyncio.ensure_future(server.request("new"))
        await turn()
        assert [flow for flow, _ in server.at_work][-1] == "new"
        wide.cancel()
        new.cancel()


async def test_a_seat_may_be_kept_until_it_is_left() -> None:
    fairness = Fairness(FairnessLimits(4))
    async with fairness.seat("a") as kept:
        kept.keep()
    async with fairness.seat("a") as other:
        assert other.held
    assert (kept.held, other.held, fairness._free) == (True, False, 3)
    kept.leave()
    kept.leave()
    assert not kept.held
    assert fairness._free == 4
    await kept.take()
    await kept.take()
    assert (kept.held, fairness._free) == (True, 3)
    kept.leave()
    assert fairness._free == 4
    assert not fairness._flows


async def test_too_many_of_one_flow_are_refused_and_others_are_not() -> None:
    server = Server(seats=1, waiting=3)
    async with running(server, ("flood", 4)):
        with pytest.raises(Refusal, match="3 requests of flood wait already") as refused:
            await server.request("flood")
        assert (refused.value.code, refused.value.details) == (429, {"retryAfterSeconds": 1})
        other = asyncio.ensure_future(server.request("other"))
        await turn()
        assert not other.done()
        other.cancel()


async def test_who_waits_too_long_is_refused() -> None:
    server = Server(seats=1, wait_s=0.01)
    async with running(server, ("flood", 1)):
        with pytest.raises(Refusal, match="busy"):
            await server.request("other")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=5)  # two of a flow give up together, and the second took another's place in line along
@example(seed=186)
@example(seed=3566)  # nobody is at work for some rounds, and somebody has just been seated
def test_seats_are_never_lost_nor_given_twice(seed: int) -> None:
    async def scenario() -> None:
        random = Random(seed)
        server = Server(seats=5, waiting=20, wait_s=2)  # somebody who is forgotten is told that the server was busy
        tasks: list[asyncio.Future[None]] = []
        for _ in range(200):
            match random.randrange(4):
                case 0 | 1:
                    tasks.append(asyncio.ensure_future(server.request(random.choice("abc"), random.choice([1, 1, 3]))))
                case 2:
                    await server.finish(random.randrange(4))
                case 3 if tasks:
                    random.choice(tasks).cancel()
            if random.random() < 0.5:
                await asyncio.sleep(0)
            assert server.fairness._free >= 0
        while not all(task.done() for task in tasks):
            await server.finish(5)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [str(result) for result in results if isinstance(result, Refusal)]
        assert not [why for why in refused if "busy" in why]
        assert server.fairness._free == 5
        assert not server.fairness._flows

    asyncio.run(scenario())
