"""Whoever is refused again and again: it costs little, keeps nobody waiting, and pushes nothing out of the record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from api_world import ADMIN, GROUP, Client

from choregos.api.access import pace, repeats
from choregos.api.access.pace import Pace, RefusalLimits
from choregos.api.access.repeats import Repeats
from choregos.api.context import ApiLimits
from choregos.api.rules.status import Refusal
from choregos.api.server import build_app
from choregos.testing.sim_clock import SimClock

NODES = f"{GROUP}/agentnodes"
EVE = {"subject": ((("commonName", "eve"),),)}


# Pace


async def given(pace: Pace, clock: SimClock, who: str, seconds: int, loops: int = 1) -> tuple[int, int]:
    """How many refusals so many loops of one client are given within a time, and how many 429."""
    counts = [0, 0]
    ends_at = clock.monotonic() + seconds

    async def loop() -> None:
        while clock.monotonic() < ends_at:
            try:
                await pace.turn(who)
                counts[0] += 1
            except Refusal:
                counts[1] += 1
                await clock.sleep(1)

    running = [asyncio.ensure_future(loop()) for _ in range(loops)]
    while not all(each.done() for each in running):
        await clock.advance(0.1)
    return counts[0], counts[1]


async def test_the_first_are_given_at_once_and_then_so_many_in_a_second() -> None:
    clock = SimClock()
    limits = RefusalLimits(per_s=10, burst=30, wait_s=2)
    refused, asked_too_often = await given(Pace(limits, clock), clock, "eve", 10)
    assert 30 + 100 - 2 <= refused <= 30 + 100 + 2
    assert asked_too_often == 0, "one after the other is only slow"


async def test_more_than_may_wait_are_told_to_come_later() -> None:
    clock = SimClock()
    limits = RefusalLimits(per_s=10, burst=30, wait_s=2)
    refused, asked_too_often = await given(Pace(limits, clock), clock, "eve", 10, loops=100)
    assert refused <= 30 + 100 + 2 * 10 + 2
    assert asked_too_often > 100


async def test_nobody_else_is_slowed_and_a_pause_fills_the_budget() -> None:
    clock = SimClock()
    slow = Pace(RefusalLimits(per_s=1, burst=5, wait_s=0), clock)
    for _ in range(5):
        await slow.turn("eve")
    with pytest.raises(Refusal) as refused:
        await slow.turn("eve")
    assert refused.value.code == 429
    await slow.turn("adam")
    await clock.advance(5)
    for _ in range(5):
        await slow.turn("eve")


async def test_budgets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "KNOWN_MAX", 3)
    slow = Pace(RefusalLimits(per_s=1, burst=1, wait_s=0), SimClock())
    for number in range(10):
        await slow.turn(str(number))
    assert len(slow._full_at) == 3


# Repeats


def test_the_same_is_recorded_with_numbers_that_double() -> None:
    noted = Repeats(SimClock())
    found = [noted.note("eve", "x") for _ in range(1000)]
    recorded = [each for each in found if each is not None]
    assert recorded == [{}, *({repeats.REPEATED: str(2**power)} for power in range(1, 10))]
    assert noted.note("adam", "x") == noted.note("eve", "y") == {}


def test_ever_different_refusals_of_one_are_recorded_so_many_and_then_counted() -> None:
    noted = Repeats(SimClock())
    recorded = [each for number in range(100_000) if (each := noted.note("eve", number)) is not None]
    assert len(recorded) == repeats.LINES_MAX + 10
    assert recorded[-1] == {repeats.REFUSALS: str(2**16)}
    assert noted.note("adam", 1) == {}


async def test_after_a_while_it_is_recorded_as_at_first() -> None:
    clock = SimClock()
    noted = Repeats(clock)
    for number in range(200):
        noted.note("eve", number)
        noted.note("eve", "x")
    await clock.advance(repeats.WINDOW_S + 1)
    assert noted.note("eve", "x") == {}
    assert noted.note("eve", "y") == {}


def test_what_is_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "KNOWN_MAX", 5)
    noted = Repeats(SimClock())
    for number in range(50):
        noted.note(f"u{number}", number)
    assert (len(noted._same._counts), len(noted._of_who._counts)) == (5, 5)


# The server


@pytest.fixture
async def strict(world: Any) -> AsyncIterator[Client]:
    app = build_app(replace(world.context, limits=ApiLimits(refusals=RefusalLimits(per_s=1, burst=20, wait_s=0))))
    yield Client(app, ADMIN)
    await app.close()


@pytest.mark.parametrize("certificate", [EVE, None], ids=["known", "not known"])
async def test_a_loop_of_refusals_ends_in_429_and_leaves_a_few_lines(
    world: Any, strict: Client, certificate: Any
) -> None:
    eve = strict.as_(certificate)
    world.audit.events.clear()
    codes = [(await eve.get(f"{NODES}/n1")).code for _ in range(50)]
    assert (codes[0], codes[-1]) == (401 if certificate is None else 403, 429)
    assert 20 <= sum(code != 429 for code in codes) <= 25
    assert [event["annotations"].get(repeats.REPEATED) for event in world.audit.events] == [None, "2", "4", "8", "16"]
    assert (await strict.get(NODES)).code == 200
    reply = await eve.get(f"{NODES}/n1")
    assert (reply.code, reply.header("retry-after")) == (429, ["1"])


async def test_who_is_allowed_something_is_not_held_up_by_his_refusals(world: Any, strict: Client) -> None:
    eve = strict.as_(EVE)
    for _ in range(30):
        await eve.get(NODES)
    assert (await eve.get("/apis")).code == 200
    whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    assert (await eve.post(whoami, {})).code == 201
