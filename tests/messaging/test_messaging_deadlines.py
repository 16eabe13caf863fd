"""The timing wheel: never early, at most a tick late, nothing left behind."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choregos.messaging.deadlines import TICK_S, Deadlines


async def test_deadlines_fire_in_their_order_and_never_early() -> None:
    deadlines = Deadlines()
    loop = asyncio.get_running_loop()
    fired: list[tuple[float, float]] = []
    done = asyncio.Event()
    timeouts = [0.05, 0.01, 0.03, 0.0]

    def expire(due: float) -> None:
        fired.append((due, loop.time()))
        if len(fired) == len(timeouts):
            done.set()

    for timeout_s in timeouts:
        due = loop.time() + timeout_s
        deadlines.add(timeout_s, lambda due=due: expire(due))
    await asyncio.wait_for(done.wait(), 5)
    assert [due for due, _ in fired] == sorted(due for due, _ in fired)
    assert all(at >= due for due, at in fired)
    assert len(deadlines) == 0


async def test_a_discarded_deadline_does_not_fire() -> None:
    deadlines = Deadlines()
    fired: list[str] = []
    last = asyncio.Event()
    early = deadlines.add(TICK_S, lambda: fired.append("early"))
    deadlines.add(3 * TICK_S, last.set)
    deadlines.discard(early)
    deadlines.discard(early)
    await asyncio.wait_for(last.wait(), 5)
    assert fired == []


async def test_a_failing_action_does_not_stop_the_wheel(caplog: pytest.LogCaptureFixture) -> None:
    deadlines = Deadlines()
    last = asyncio.Event()

    def fail() -> None:
        raise ValueError("no")

    deadlines.add(0.0, fail)
    deadlines.add(0.0, last.set)
    await asyncio.wait_for(last.wait(), 5)
    assert "a deadline's action failed" in caplog.text


async def test_closing_forgets_everything() -> None:
    deadlines = Deadlines()
    deadlines.add(60.0, lambda: None)
    deadlines.close()
    assert len(deadlines) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 1000.0), st.booleans()), max_size=50))
def test_only_what_was_not_discarded_is_held(entries: list[tuple[float, bool]]) -> None:
    async def scenario() -> None:
        deadlines = Deadlines()
        kept = 0
        for timeout_s, discard in entries:
            deadline = deadlines.add(timeout_s + 1.0, lambda: None)
            if discard:
                deadlines.discard(deadline)
            else:
                kept += 1
        assert len(deadlines) == kept
        deadlines.close()

    asyncio.run(scenario())
