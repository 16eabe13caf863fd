"""Events are a courtesy: bounded, counted, and never in the way of anything; what is lost of them is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from choregos.control import event_causes
from choregos.control.event_causes import CAUSES_MAX, WINDOW_S, Causes
from choregos.control.events import ROUND_S, WAITING_MAX, EventRecorder
from choregos.foundation.errors import Conflict, Temporary
from choregos.foundation.ids import SeededIds
from choregos.resources.events import reference
from choregos.store.backends.memory import MemoryLog
from choregos.store.resources import ResourceStore
from choregos.testing.sim_clock import SimClock

ABOUT = reference("Agent", "work-0", namespace="default", uid="u1")
OTHER = reference("Agent", "work-1", namespace="default", uid="u2")


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
    recorder.record_reference(ABOUT, "Crashed", "it fell")
    await clock.advance(1)
    assert reasons(store) == {"Crashed": 4}


async def test_another_cause_is_another_event(store: FailingStore, recorder: EventRecorder, clock: SimClock) -> None:
    for host in ("vm-2c4d", "vm-bcdf", "vm-7k7k"):
        recorder.record_reference(ABOUT, "Crashed", f"worker {host} ended: killed by SIGSEGV")
        recorder.record_reference(ABOUT, "Crashed", f"worker {host} ended: ended with status 3")
        recorder.record_reference(ABOUT, "Crashed", f"worker {host} ended: ended with status 4")
        await clock.advance(1)
    assert [event["count"] for event in store.list("events").items] == [3, 3, 3]


async def test_an_object_with_ever_new_causes_has_few_events(
    store: FailingStore, recorder: EventRecorder, clock: SimClock
) -> None:
    for number in range(100):
        recorder.record_reference(ABOUT, "Crashed", "it fell over " + "x" * number)
        recorder.record_reference(OTHER, "Crashed", "it fell")
    for _ in range(10):
        await clock.advance(1)
    events = [event for event in store.list("events").items if event["involvedObject"]["name"] == ABOUT["name"]]
    assert len(events) == CAUSES_MAX + 1
    assert sorted(event["count"] for event in events) == [1] * CAUSES_MAX + [100 - CAUSES_MAX]
    (combined,) = [event for event in events if event["message"].startswith("(combined from similar events): ")]
    assert combined["count"] == 100 - CAUSES_MAX
    assert combined["message"].endswith("x" * 99)
    await clock.advance(WINDOW_S)
    recorder.record_reference(ABOUT, "Crashed", "it fell for another reason")
    await clock.advance(1)
    assert any(event["message"] == "it fell for another reason" for event in store.list("events").items)


def test_what_is_remembered_of_causes_is_bounded(monkeypatch: pytest.MonkeyPatch, clock: SimClock) -> None:
    monkeypatch.setattr(event_causes, "OBJECTS_MAX", 10)
    causes = Causes(clock)
    for number in range(100):
        for cause in "abcdefghijklmnop":
            causes.admit((number,), cause)
    assert len(causes._seen) == 10
    assert {len(seen) for seen in causes._seen.values()} == {CAUSES_MAX}


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
