"""Events are a courtesy: bounded, counted, and never in the way of anything; what is lost of them is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from choregos.control.events import ROUND_S, WAITING_MAX, EventRecorder
from choregos.foundation.errors import Conflict, Temporary
from choregos.foundation.ids import SeededIds
from choregos.resources.events import reference
from choregos.store.backends.memory import MemoryLog
from choregos.store.resources import ResourceStore
from choregos.testing.sim_clock import SimClock

ABOUT = reference("Agent", "work-0", namespace="default", uid="u1")


class FailingStore(ResourceStore):
    """Fails as often as it is told to."""

    failures: list[Exception]

    async def create(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        if self.failures:
            raise self.failures.pop(0)
        return await super().create(*arguments, **options)


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
async def store(clock: SimClock) -> AsyncIterator[FailingStore]:
    async with FailingStore(MemoryLog(clock), clock) as store:
        store.failures = []
        yield store


@pytest.fixture
async def recorder(store: FailingStore, clock: SimClock) -> AsyncIterator[EventRecorder]:
    async with EventRecorder(store, clock, SeededIds(1), "test") as recorder:
        yield recorder


def reasons(store: ResourceStore) -> dict[str, int]:
    return {event["reason"]: event["count"] for event in store.list("events").items}


async def test_what_happens_again_is_one_event(store: FailingStore, recorder: EventRecorder, clock: SimClock) -> None:
    for _ in range(3):
        recorder.record_reference(ABOUT, "Crashed", "it fell")
    await clock.advance(1)
    recorder.record_reference(ABOUT, "Crashed", "it fell", count=2)
    await clock.advance(1)
    assert reasons(store) == {"Crashed": 5}


@pytest.mark.parametrize("error", [Conflict("deliberate"), Temporary("deliberate")])
async def test_an_event_is_tried_again(
    store: FailingStore, recorder: EventRecorder, clock: SimClock, error: Exception
) -> None:
    store.failures = [error, error]
    recorder.record_reference(ABOUT, "Crashed", "it fell")
    await clock.advance(5)
    assert reasons(store) == {"Crashed": 1}


async def test_one_that_cannot_be_written_is_told_and_holds_up_no_other(
    store: FailingStore, recorder: EventRecorder, clock: SimClock, caplog: pytest.LogCaptureFixture
) -> None:
    store.failures = [RuntimeError("deliberate")]
    recorder.record_reference(ABOUT, "Crashed", "it fell")
    recorder.record_reference(ABOUT, "Started", "it rose")
    await clock.advance(1)
    assert reasons(store) == {"Started": 1}
    assert "event Crashed about" in caplog.text


async def test_a_flood_is_bounded_and_told(
    store: FailingStore, recorder: EventRecorder, clock: SimClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(WAITING_MAX + 5):
        recorder.record_reference(reference("Agent", f"work-{number}", namespace="default"), "Crashed", "it fell")
    for _ in range(60):
        await clock.advance(ROUND_S)
    assert len(store.list("events").items) == WAITING_MAX
    assert "5 events are lost" in caplog.text
