"""What requests compute keeps nobody else waiting: light work in small pieces, heavy work beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from choregos.api.rules.status import Refusal
from choregos.api.sharing.decisions import LIGHT_BYTES_MAX, LIGHT_TEXT_MAX, LIGHT_VALUES_MAX, Decisions
from choregos.api.sharing.fairness import FairnessLimits
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Temporary

LARGE_BODY = b"x" * (LIGHT_BYTES_MAX + 1)
PATIENCE_S = 30


@pytest.fixture
async def decisions() -> AsyncIterator[Decisions]:
    made = Decisions(FairnessLimits(seats=1, waiting_per_flow=2), SystemClock())
    yield made
    made.close()


class Held:
    """Work that lasts until it is let go by the event loop, which it would otherwise stop for ever."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.let_go = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> str:
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.let_go.wait(PATIENCE_S)
        return "done"


@pytest.mark.parametrize(
    ("body", "present"),
    [
        (LARGE_BODY, None),
        (b"{}", {"data": dict.fromkeys(map(str, range(LIGHT_VALUES_MAX)))}),
        (b"{}", {"spec": [[{"a": n}] for n in range(LIGHT_VALUES_MAX // 2)]}),
    ],
    ids=["large body", "wide object", "deep object"],
)
async def test_the_event_loop_goes_on_beside_heavy_work(decisions: Decisions, body: bytes, present: Any) -> None:
    held = Held()
    async with asyncio.TaskGroup() as group:
        deciding = group.create_task(decisions.of("a", body, present).decide(held))
        await held.begun.wait()
        light = decisions.of("b", b"{}", {"spec": {"replicas": 1}})
        assert await light.decide(lambda: "light") == "light"
        assert not deciding.done()
        held.let_go.set()
    assert deciding.result() == "done"


async def test_heavy_work_is_done_a_piece_at_a_time_and_flows_take_turns(decisions: Decisions) -> None:
    order: list[str] = []

    async def request(flow: str) -> None:
        decider = decisions.of(flow, LARGE_BODY)
        await decider.decide(lambda: order.append(f"{flow} reads"))
        await decider.decide(lambda: order.append(f"{flow} checks"))

    first = Held()
    async with asyncio.TaskGroup() as group:
        group.create_task(decisions.of("loop", LARGE_BODY).decide(first))
        await first.begun.wait()
        for flow in ("loop", "loop", "other"):
            group.create_task(request(flow))
            await asyncio.sleep(0)
        first.let_go.set()
    assert order[0] == "other reads"
    assert order.index("other checks") <= 2
    assert sorted(order) == sorted(["other reads", "other checks", *["loop reads", "loop checks"] * 2])


async def test_who_has_a_place_and_waits_for_something_else_keeps_nobody_waiting() -> None:
    decisions = Decisions(FairnessLimits(seats=4), SystemClock())
    async with AsyncExitStack() as places:
        for _ in range(3):
            await places.enter_async_context(decisions.of("loop", LARGE_BODY).place())
        other = decisions.of("other", LARGE_BODY)
        async with other.place():
            assert await other.decide(lambda: "done") == "done"
    decisions.close()


async def test_an_object_may_have_grown_since_its_size_was_looked_at(decisions: Decisions) -> None:
    decider, held = decisions.of("a", b"{}", {"data": {}}), Held()
    decider.consider({"metadata": {"managedFields": "x" * (LIGHT_TEXT_MAX + 1)}})
    async with asyncio.TaskGroup() as group:
        deciding = group.create_task(decider.decide(held))
        await held.begun.wait()  # which the event loop would never come to, if it did the work
        held.let_go.set()
    assert deciding.result() == "done"


async def test_after_the_end_heavy_work_is_refused_for_the_time_being(decisions: Decisions) -> None:
    decisions.close()
    with pytest.raises(Temporary):
        await decisions.of("a", LARGE_BODY).decide(lambda: 1)
    assert await decisions.of("a", b"{}").decide(lambda: 1) == 1


async def test_who_waits_for_a_turn_is_bounded(decisions: Decisions) -> None:
    first = Held()
    async with asyncio.TaskGroup() as group:
        group.create_task(decisions.of("loop", LARGE_BODY).decide(first))
        await first.begun.wait()
        waiting = [group.create_task(decisions.of("loop", LARGE_BODY).decide(lambda: None)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await decisions.of("loop", LARGE_BODY).decide(lambda: None)
        assert refused.value.code == 429
        first.let_go.set()
    assert all(task.done() for task in waiting)


async def test_what_is_wrong_is_raised_where_it_was_asked(decisions: Decisions) -> None:
    def fail() -> None:
        raise Refusal(400, "BadRequest", "no")

    for body in (b"", LARGE_BODY):
        with pytest.raises(Refusal, match="no"):
            await decisions.of("a", body).decide(fail)
        assert await decisions.of("a", body).decide(lambda: 1) == 1


async def test_a_request_that_is_given_up_leaves_its_turn(decisions: Decisions) -> None:
    held = Held()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(decisions.of("a", LARGE_BODY).decide(held))
        await held.begun.wait()
        task.cancel()
    held.let_go.set()
    assert await decisions.of("a", LARGE_BODY).decide(lambda: 2) == 2
