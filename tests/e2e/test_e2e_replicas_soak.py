"""Servers and nats-server are killed and held up at random, round after round, under authors and watches."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Iterator

import psutil
import pytest
from e2e_machine import UpProcess
from e2e_replicas import (
    Servers,
    dice,
    servers_of,
    summary,
    until_each_has_written,
    writing_and_reading,
)
from e2e_watchers import Crowd, RawWatch, truth_of

from choregos.foundation.tasks import Tasks

pytestmark = [pytest.mark.real, pytest.mark.soak]

__all__ = ["dice"]

ROUNDS = int(os.environ.get("CHOREGOS_SOAK_ROUNDS", "20"))
HELD_UP_S_MAX = 8.0
"""Longer than a request waits for nats-server."""


async def trouble(servers: Servers, dice: random.Random) -> None:
    """One to three of the processes are killed, or held up for a while."""
    machine = servers.machine
    there = [*machine.named("nats-server"), *machine.named("api")]
    for process in dice.sample(there, dice.randint(1, 3)):
        with contextlib.suppress(psutil.NoSuchProcess):
            if dice.random() < 0.5:
                print(f"kill {process.pid} {process.name()}")
                process.kill()
                continue
            held_up_s = dice.uniform(0, HELD_UP_S_MAX)
            print(f"hold up {process.pid} {process.name()} for {held_up_s:.1f} s")
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(held_up_s)
            process.send_signal(signal.SIGCONT)


async def supervise(servers: Servers) -> None:
    """Starts again what has ended, as `up` does for its own."""
    while True:
        for each in servers.replicas:
            if each.process.poll() is not None:
                each.start()
        await asyncio.sleep(0.2)


@pytest.fixture
def servers(machine: UpProcess) -> Iterator[Servers]:
    with servers_of(machine, beside=2) as servers:
        yield servers


@pytest.mark.timeout(3000)
async def test_random_trouble(servers: Servers, dice: random.Random):
    async with servers.connections() as connections:
        moving = [RawWatch(dice.sample(connections, 3)) for _ in range(20)]
        staying = [RawWatch([connection]) for connection in connections for _ in range(3)]
        async with Crowd(servers, [*moving, *staying], servers.urls * 2, []) as crowd, Tasks() as tasks:
            tasks.start(supervise(servers), "supervise")
            async with writing_and_reading(connections, dice, "soak", 8) as authors:
                for number in range(ROUNDS):
                    await until_each_has_written(authors, dice.randint(0, 20))
                    print(f"round {number}: {summary(authors)}")
                    await trouble(servers, dice)
                    await servers.until_all_answer()
                    await until_each_has_written(authors, 3)
            await crowd.until_all_is_shown(await truth_of(connections[0]))
