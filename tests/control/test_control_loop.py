"""The reconciling loop: errors and what each leads to, periodic scans, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import pytest

from choregos.control.loop import Controller, Key, LoopSettings, Result
from choregos.foundation.errors import Conflict, Deposed, Temporary
from choregos.testing.sim_clock import SimClock

A, B = Key("", "a"), Key("ns", "b")


class Script:
    """Answers each reconciliation with the next of its outcomes, then with success."""

    name = "script"

    def __init__(self, *outcomes: Exception | Result, keys: Iterable[Key] = ()) -> None:
        self._outcomes = list(outcomes)
        self._keys = list(keys)
        self.seen: list[Key] = []
        self.at_once = 0

    def keys(self) -> Iterable[Key]:
        return self._keys

    async def reconcile(self, key: Key) -> Result:
        self.seen.append(key)
        await asyncio.sleep(0)
        outcome = self._outcomes.pop(0) if self._outcomes else Result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_every_key_is_looked_at_first_and_in_each_scan() -> None:
    clock, script = SimClock(), Script(keys=[A, B])
    async with Controller(script, clock, LoopSettings(resync_s=60)):
        await clock.advance(0)
        assert script.seen == [A, B]
        await clock.advance(59)
        assert len(script.seen) == 2
        await clock.advance(1)
        assert script.seen == [A, B, A, B]


@pytest.mark.parametrize(
    ("outcome", "again_after_s"),
    [(Conflict("stale"), 0.01), (Temporary("busy", retry_after_s=7), 7), (ValueError("bug"), 0.01), (Result(3), 3)],
)
async def test_the_outcome_decides_when_to_come_again(
    outcome: Exception | Result, again_after_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    clock, script = SimClock(), Script(outcome)
    async with Controller(script, clock) as controller:
        controller.wake(A)
        await clock.advance(again_after_s * 0.7)
        assert script.seen == [A]
        await clock.advance(again_after_s)
        assert script.seen == [A, A]
        await clock.advance(200)
        assert script.seen == [A, A]
    assert len([entry for entry in caplog.records if entry.exc_info]) == isinstance(outcome, ValueError)


async def test_a_deposed_loop_stops_and_says_so_once() -> None:
    clock, script = SimClock(), Script(Deposed("epoch 7 is over"))
    deposed: list[bool] = []
    async with Controller(
        script, clock, LoopSettings(workers=2), on_deposed=lambda: deposed.append(True)
    ) as controller:
        controller.wake(A)
        await clock.advance(1)
        controller.wake(B)
        await clock.advance(600)
    assert deposed == [True]
    assert script.seen == [A]


async def test_a_key_is_never_with_two_workers() -> None:
    clock = SimClock()
    running: set[Key] = set()

    class Slow(Script):
        async def reconcile(self, key: Key) -> Result:
            assert key not in running
            running.add(key)
            self.at_once = max(self.at_once, len(running))
            controller.wake(key)
            await clock.sleep(1)
            running.remove(key)
            return Result()

    slow = Slow(keys=[A, B])
    async with Controller(slow, clock, LoopSettings(workers=3)) as controller:
        await clock.advance(10)
    assert slow.at_once == 2


async def test_what_a_failing_reconciliation_causes_does_not_shorten_its_delay() -> None:
    clock = SimClock()

    class Restless(Script):
        async def reconcile(self, key: Key) -> Result:
            controller.wake(key)
            return await super().reconcile(key)

    restless = Restless(Temporary("away", retry_after_s=5), ValueError("bug"))
    async with Controller(restless, clock) as controller:
        controller.wake(A)
        await clock.advance(4.9)
        assert restless.seen == [A]
        await clock.advance(0.1)
        assert restless.seen == [A, A]


async def test_a_reconciler_that_always_wants_more_leaves_the_loop_to_others() -> None:
    class Greedy(Script):
        async def reconcile(self, key: Key) -> Result:
            self.seen.append(key)
            return Result(0.0 if len(self.seen) < 10_000 else None)

    greedy = Greedy(keys=[A])
    async with Controller(greedy, SimClock()):
        for _ in range(10):
            await asyncio.sleep(0)
    assert 0 < len(greedy.seen) <= 10


async def test_a_scan_that_fails_is_not_the_last() -> None:
    clock, script = SimClock(), Script()
    scans = 0

    def keys() -> Iterator[Key]:
        nonlocal scans
        scans += 1
        yield A
        if scans == 1:
            raise ValueError("defect")
        yield B

    script.keys = keys  # type: ignore[method-assign]
    async with Controller(script, clock, LoopSettings(resync_s=60)):
        await clock.advance(59)
        assert script.seen == [A]
        await clock.advance(1)
        assert script.seen == [A, A, B]


async def test_nothing_runs_after_the_end() -> None:
    clock, script = SimClock(), Script()
    async with Controller(script, clock) as controller:
        await clock.advance(0)
    controller.wake(A)
    await clock.advance(600)
    assert script.seen == []
