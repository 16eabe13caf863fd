"""How agents of a worker share its time: on the floor and in threads, only while somebody asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from choregos.agent.marks import MarksReader, MarksWriter
from choregos.agent.worker.metering import ASKED_S, WINDOW_S, AgentThreads, Meter
from choregos.agent.worker.stepping import Floor


class Clock:
    """Moved by hand."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class Someone:
    """An agent as the floor sees it."""

    block_timeout_s = 1.0

    def __init__(self, uid: str) -> None:
        self.uid = self.label = uid

    def adopt(self, task: Any) -> None:
        raise AssertionError


A, B = Someone("a"), Someone("b")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def floor() -> Iterator[Floor]:
    marks = MarksReader()
    yield Floor(MarksWriter(marks.descriptor))
    marks.close()


@pytest.fixture
def meter(floor: Floor, clock: Clock) -> Meter:
    return Meter(floor, clock.monotonic, clock.monotonic)


def test_nothing_is_measured_while_nobody_asks(floor: Floor, meter: Meter, clock: Clock):
    outer = floor.enter(A)
    clock.now_s += 1
    floor.leave(outer)
    assert not meter.is_on
    meter.ask()
    assert meter.read() == {}


def test_who_has_the_floor_is_charged_and_a_neighbour_who_is_called_is_charged_himself(
    floor: Floor, meter: Meter, clock: Clock
):
    meter.ask()
    outer = floor.enter(A)
    clock.now_s += 1
    inner = floor.enter(B)
    clock.now_s += 2
    floor.leave(inner)
    clock.now_s += 4
    assert meter.read() == {"a": 5.0, "b": 2.0}
    floor.leave(outer)
    clock.now_s += 8  # nobody's
    assert meter.read() == {"a": 5.0, "b": 2.0}


def test_who_blocks_the_loop_without_working_uses_no_processor(floor: Floor, clock: Clock):
    used_s = 10.0
    meter = Meter(floor, clock.monotonic, lambda: used_s)
    meter.ask()
    for agent, seconds in ((A, 3.0), (B, 1.0)):
        outer = floor.enter(agent)
        clock.now_s += seconds
        floor.leave(outer)
    used_s += 2.0
    assert meter.read() == {"a": 1.5, "b": 0.5}


def test_what_is_long_ago_counts_no_more_and_who_is_idle_takes_no_room(floor: Floor, meter: Meter, clock: Clock):
    meter.ask()
    floor.leave(floor.enter(A))
    outer = floor.enter(A)
    clock.now_s += WINDOW_S
    floor.leave(outer)
    meter.tick()
    outer = floor.enter(B)
    clock.now_s += 1
    floor.leave(outer)
    assert meter.read() == {"a": WINDOW_S, "b": 1.0}
    clock.now_s += WINDOW_S
    meter.tick()
    assert meter.read() == {"b": 1.0}


def test_measuring_ends_when_nobody_has_asked_for_a_while(floor: Floor, meter: Meter, clock: Clock):
    meter.ask()
    clock.now_s += ASKED_S - 1
    meter.ask()
    clock.now_s += ASKED_S - 1
    meter.tick()
    assert meter.is_on
    clock.now_s += 1
    meter.tick()
    assert not meter.is_on


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def submitted(threads: AgentThreads, floor: Floor, agent: Someone, function: Any, *arguments: Any) -> Future[Any]:
    outer = floor.enter(agent)
    try:
        return threads.submit(function, *arguments)
    finally:
        floor.leave(outer)


@pytest.fixture
def threads(floor: Floor, meter: Meter) -> Iterator[AgentThreads]:
    with AgentThreads(floor, meter) as executor:
        yield executor


def test_threads_are_charged_to_who_has_them_run(floor: Floor, meter: Meter, threads: AgentThreads):
    submitted(threads, floor, B, burn, 0.05).result()
    meter.ask()
    assert meter.read() == {}
    submitted(threads, floor, A, burn, 0.05).result()
    assert submitted(threads, floor, A, divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        submitted(threads, floor, A, divmod, 7, 0).result()
    assert threads.submit(burn, 0.01).result() is None  # nobody's
    assert set(meter.read()) == {"a"}
    assert meter.read()["a"] >= 0.05


def test_a_thread_that_runs_already_is_charged_from_when_it_is_measured(
    floor: Floor, meter: Meter, threads: AgentThreads
):
    begun, enough = threading.Event(), threading.Event()

    def work() -> float:
        burn(0.2)
        begun.set()
        while not enough.is_set():
            burn(0.01)
        return time.thread_time()

    running = submitted(threads, floor, A, work)
    try:
        assert begun.wait(30)
        meter.ask()
        while meter.read().get("a", 0.0) < 0.02:
            time.sleep(0.005)
    finally:
        enough.set()  # or the executor would wait for it for ever
    used_s = running.result()
    assert 0.02 <= meter.read()["a"] <= used_s - 0.2
