"""Kills, round after round: after each the declared state is reached again, and nobody has ever run twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal

import psutil
import pytest
from e2e_fleet import Fleet
from e2e_machine import CAPACITY, MakeUp, UpProcess, until

pytestmark = [pytest.mark.real, pytest.mark.soak]

SIZE = 200
ROUNDS = int(os.environ.get("CHOREGOS_SOAK_ROUNDS", "20"))
WORKERS = 20
ROLES = ("worker", "worker", "node", "control", "api", "nats-server", "up")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)


@pytest.fixture
def seed() -> int:
    """Printed if the test fails; give it as CHOREGOS_SOAK_SEED to have the same kills again."""
    seed = int(os.environ.get("CHOREGOS_SOAK_SEED", "0")) or random.randrange(1, 2**32)
    print(f"CHOREGOS_SOAK_SEED={seed}")
    return seed


def choose(machine: UpProcess, dice: random.Random) -> list[tuple[str, signal.Signals, psutil.Process]]:
    """One to three processes, and how each of them ends."""
    chosen = []
    for role in dice.sample(ROLES, dice.randint(1, 3)):
        there = machine.named(role)
        if there:
            chosen.append((role, dice.choice(SIGNALS), dice.choice(there)))
    return chosen


@pytest.mark.timeout(3000)
async def test_random_kills(machine: UpProcess, seed: int):
    dice = random.Random(seed)
    client = machine.client()
    fleet = Fleet(machine, client, SIZE)
    await fleet.declare()
    before = await fleet.until_ready()
    for number in range(1, ROUNDS + 1):
        async with fleet.load() as load:
            await fleet.until_answers(load, dice.randint(0, 50))
            victims = choose(machine, dice)
            print(f"round {number}: {[(role, sign.name, process.pid) for role, sign, process in victims]}")
            for _, sign, process in victims:
                with contextlib.suppress(psutil.NoSuchProcess):  # one of the others was its parent
                    process.send_signal(sign)

            async def ended() -> bool:
                there = machine.processes()
                return not any(process in there for _, _, process in victims)  # noqa: B023

            await until(ended, "the victims have ended")
            if any(role == "up" for role, _, _ in victims):
                machine.process.wait(60)
                machine.until_gone()
                machine.start()
                await client.close()
                client = machine.client()
                fleet = Fleet(machine, client, SIZE)
        assert not load.untyped
        await fleet.until_settled()
        async with fleet.load() as load:
            await fleet.until_answers(load)
        await fleet.verify(before)
    await client.close()


@pytest.mark.timeout(600)
async def test_every_worker_in_turn(make_up: MakeUp):
    """Many workers, so that no agent is lost so often that its delay becomes long."""
    machine = make_up("kills", "--api-port", "0", "--workers", str(WORKERS), "--capacity", CAPACITY)
    machine.start()
    async with machine.client() as client:
        fleet = Fleet(machine, client, SIZE)
        await fleet.declare()
        before = await fleet.until_ready()
        for victim in sorted({agent["status"]["host"] for agent in before.values()}):
            there = next(agent for agent in before.values() if agent["status"]["host"] == victim)
            name = there["metadata"]["name"]
            answer = await client.call(agent=name, method="who")
            psutil.Process(answer["pid"]).kill()
            await fleet.until_ready(not_in=frozenset({victim}))
        await fleet.verify(before)
    machine.stop()
