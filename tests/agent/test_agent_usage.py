"""What agents use of their node: workers exactly, shares by handling time, children too."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import pytest

from choregos.agent import footprints
from choregos.agent.footprints import Footprint
from choregos.agent.usage import UsageBook
from choregos.foundation.clock import SystemClock
from choregos.wire.node import UsageReply, UsageRequest

MEBIBYTE = 1024 * 1024


class Clock:
    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return 5

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


class Worker:
    """A worker that says how long its agents have handled calls."""

    def __init__(self, pid: int, **seconds: float) -> None:
        self.host = f"w{pid}"
        self.process = SimpleNamespace(pid=pid)
        self.residents = set(seconds)
        self.seconds = {uid: value for uid, value in seconds.items() if value}

    async def handling(self, _timeout_s: float) -> Any:
        return self.seconds


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[int, Footprint]:
    """What the operating system says, by process id."""
    found: dict[int, Footprint] = {}

    def of_groups(leaders: Any, _wall_s: float, *, memory: bool) -> Any:
        return {pid: footprint for pid, footprint in found.items() if pid in leaders}

    monkeypatch.setattr(footprints, "of_groups", of_groups)
    monkeypatch.setattr(footprints, "of_machine", lambda: Footprint(100.0, 8_000, 0.0))
    return found


async def ask(book: UsageBook, workers: list[Any], *uids: str) -> UsageReply:
    where = {uid: worker for worker in workers for uid in worker.residents}
    return await book.answer(UsageRequest(1, uids), where.get)


@pytest.mark.parametrize(
    ("seconds", "shares"),
    [
        ({"a": 1.0, "b": 3.0, "c": 0.0}, {"a": 0.25, "b": 0.75, "c": 0.0}),
        ({"a": 0.0, "b": 0.0}, {"a": 0.5, "b": 0.5}),
        ({"a": float("nan"), "b": float("inf"), "c": -5.0, "d": 2.0}, {"a": 0, "b": 0, "c": 0, "d": 1.0}),
        ({"alone": 0.0}, {"alone": 1.0}),
    ],
)
async def test_the_shares_of_a_worker_add_up(measured: Any, seconds: dict[str, float], shares: dict[str, float]):
    worker = Worker(7, **seconds)
    measured[7] = Footprint(4.0, 900, 40.0)
    reply = await ask(UsageBook(list, Clock()), [worker], *seconds)
    assert {agent.uid: agent.share for agent in reply.agents} == shares
    assert reply.workers[0].agents == len(seconds)
    assert reply.workers[0].handling is (seconds not in ({"a": 0.0, "b": 0.0}, {"alone": 0.0}))


async def test_who_is_asked_for_is_answered_for(measured: Any):
    workers = [Worker(7, a=1.0, b=1.0), Worker(8, c=0.0), Worker(0, starting=0.0), Worker(9, gone=0.0)]
    measured |= {7: Footprint(4.0, 900, 40.0), 8: Footprint(1.0, 500, 40.0)}
    reply = await ask(UsageBook(list, Clock()), workers, "b", "c", "starting", "gone", "stranger")
    assert [(agent.uid, reply.workers[agent.worker].host) for agent in reply.agents] == [("b", "w7"), ("c", "w8")]
    assert reply.machine.memory == 8_000


async def test_processor_time_is_that_of_the_last_seconds(measured: Any):
    clock, worker = Clock(), Worker(7, a=0.0)
    book = UsageBook(lambda: [worker], clock)

    async def cores() -> tuple[float, float]:
        [found] = (await ask(book, [worker], "a")).workers
        return found.cores, found.window_s

    measured[7] = Footprint(4.0, 900, 40.0)
    assert await cores() == (0.1, 40.0)  # since it was started
    await book._sample()
    clock.now_s += 15
    measured[7] = Footprint(7.0, 900, 55.0)
    assert await cores() == (0.2, 15.0)
    await book._sample()
    clock.now_s += 5
    measured[7] = Footprint(12.0, 900, 60.0)
    assert await cores() == (0.4, 20.0)  # 5 seconds would say little
    clock.now_s += 5
    assert await cores() == (0.5, 10.0)
    worker.process.pid = 8  # another process, and nothing is left of the last one
    measured[8] = Footprint(1.0, 900, 2.0)
    assert await cores() == (0.5, 2.0)
    await book._sample()
    assert set(book._samples) == {8, -1}


def test_a_group_is_its_leader_and_all_that_it_has_started():
    mine = os.getpgid(0)
    found = footprints.of_groups({mine, 999_999_999}, SystemClock().wall_ms() / 1000, memory=True)
    assert set(found) == {mine}
    assert found[mine].cpu_s > 0
    assert found[mine].memory > MEBIBYTE
    assert footprints.of_groups({mine}, SystemClock().wall_ms() / 1000, memory=False)[mine].memory == 0
    machine = footprints.of_machine()
    assert machine.cpu_s > found[mine].cpu_s / 2
    assert machine.memory > MEBIBYTE


@pytest.mark.real
async def test_agents_of_a_shared_worker_share_what_it_uses(stage: Any, sample: Any):
    stage.assign(sample("Burner"), "loop", "thread", "idle")
    await stage.until_running("loop", "thread", "idle")
    uids = tuple(f"uid-of-{name}" for name in ("loop", "thread", "idle"))
    await stage.host.usage(UsageRequest(1, uids))  # from here on it is measured
    await stage.call("loop", "on_the_loop", seconds=0.3)
    await stage.call("thread", "in_a_thread", seconds=0.9)
    reply = await stage.host.usage(UsageRequest(1, uids))
    shares = {agent.uid.removeprefix("uid-of-"): agent.share for agent in reply.agents}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["thread"] > shares["loop"] > 10 * shares["idle"]
    [worker] = reply.workers
    assert worker.agents == 3
    assert worker.cores * worker.window_s >= 1.2
    assert worker.memory > 10 * MEBIBYTE


@pytest.mark.real
async def test_a_dedicated_agent_has_what_its_processes_use(stage: Any, sample: Any):
    stage.assign(sample("Burner"), "alone", dedicated=True)
    await stage.until_running("alone")
    before = (await stage.host.usage(UsageRequest(1, ("uid-of-alone",)))).workers[0]
    await stage.call("alone", "in_a_child", seconds=0.5)
    after = (await stage.host.usage(UsageRequest(1, ("uid-of-alone",)))).workers[0]
    assert after.memory - before.memory > 40 * MEBIBYTE
    assert after.cores * after.window_s - before.cores * before.window_s >= 0.4
