"""Whose turn it is: few at a time, no party before the others because it has more that wait."""

from __future__ import annotations

import asyncio
import random

import pytest

from choregos.agent.turns import FairTurns


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_one_of_a_small_party_does_not_wait_for_all_of_a_large_one() -> None:
    turns = FairTurns(2)
    served: list[str] = []

    async def take(party: str) -> None:
        await turns.take(party)
        served.append(party)

    waiting = [asyncio.ensure_future(take("large")) for _ in range(1000)]
    await settle()
    waiting += [asyncio.ensure_future(take(party)) for party in ("small", "other", "other")]
    await settle()
    assert served == ["large", "large"]
    for _ in range(6):
        turns.give_back()
    await settle()
    assert served[2:] == ["large", "small", "other", "large", "other", "large"]
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


@pytest.mark.parametrize("seed", range(20))
async def test_no_turn_is_lost_or_made_whoever_gives_up(seed: int) -> None:
    dice, turns, held, most = random.Random(seed), FairTurns(3), 0, 0

    async def work(party: str) -> None:
        nonlocal held, most
        await turns.take(party)
        held += 1
        most = max(most, held)
        try:
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
        finally:
            held -= 1
            turns.give_back()

    tasks = [asyncio.ensure_future(work(dice.choice("abc"))) for _ in range(60)]
    while not all(task.done() for task in tasks):
        if dice.random() < 0.5:
            dice.choice(tasks).cancel()
        await asyncio.sleep(0)
    assert (held, most, turns.free) == (0, 3, 3)
