"""The parts of a worker, in this process: permits to start, templates, and what is printed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choregos.agent.marks import MarksReader, MarksWriter
from choregos.agent.worker import residents as module
from choregos.agent.worker.residents import Residents
from choregos.agent.worker.stepping import Floor
from choregos.agent.worker.voice import PrintedText, Voice
from choregos.foundation.clock import SystemClock
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.invocation import Invoker
from choregos.wire.worker import Clinging, Logs, StartAgent, Started, Stopped, Template

SAMPLES = str(Path(__file__).parent / "samples")


@pytest.fixture
def floor():
    marks = MarksReader()
    yield Floor(MarksWriter(marks.descriptor))
    marks.close()


class Told:
    """What a worker's part has sent to the node."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._news = asyncio.Event()

    def send(self, message: Any) -> None:
        self.messages.append(message)
        self._news.set()

    @property
    def started(self) -> list[str]:
        frames = [message for message in self.messages if isinstance(message, Started)]
        return [outcome.uid for frame in frames for outcome in frame.outcomes if not outcome.reason]

    async def until_started(self, *uids: str) -> None:
        await self.until(lambda: set(uids) <= set(self.started))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20.0):
            while not condition():
                self._news.clear()
                await self._news.wait()


def make_residents(floor: Floor, told: Told) -> Residents:
    deadlines = Deadlines()

    async def ask(*_: object, **__: object) -> Any:
        raise AssertionError

    return Residents(
        "default", floor=floor, invoker=Invoker(deadlines, 10), ask=ask, send=told.send, expect=lambda _: None
    )


async def test_an_agent_stopped_before_its_turn_to_start_takes_no_turn_away(floor, monkeypatch, tmp_path: Path):
    monkeypatch.syspath_prepend(SAMPLES)
    monkeypatch.setattr(module, "STARTING_MAX", 1)
    told = Told()
    residents = make_residents(floor, told)
    file = tmp_path / "go"
    settings = json.dumps({"file": str(file)}).encode()
    template = Template("d", "t", python="sample_agents:StartsInTurns", settings=settings)
    residents.start((template,), [StartAgent(uid, uid, "d") for uid in ("a", "b", "c")])
    async with asyncio.timeout(20.0):
        while len(residents) < 2:  # the first has the only turn, the second waits for it
            await asyncio.sleep(0.01)
    residents.stop(("b",), 0.0)
    assert Stopped(("b",)) in told.messages
    file.touch()
    await told.until_started("a", "c")
    assert "b" not in told.started
    await residents.close(0.0)


@pytest.fixture
async def start_swallowing(floor, monkeypatch):
    """Starts an agent whose task goes on after so many cancellations."""
    monkeypatch.syspath_prepend(SAMPLES)
    asyncio.get_running_loop().set_task_factory(floor.task_factory)

    async def start(cancellations: int, *, odd: bool = False) -> tuple[Residents, Told]:
        told = Told()
        residents = make_residents(floor, told)
        settings = json.dumps({"cancellations": cancellations, "odd": odd}).encode()
        template = Template("d", "t", python="sample_agents:Swallows", settings=settings)
        residents.start((template,), [StartAgent("a", "ada", "d")])
        await told.until_started("a")
        await asyncio.sleep(0)  # its task begins: one that has not would be gone with the first cancellation
        return residents, told

    return start


async def test_an_agent_whose_tasks_end_when_they_are_cancelled_is_waited_for_no_longer(start_swallowing, monkeypatch):
    monkeypatch.setattr(module, "INSIST_PERIOD_S", 1e9)
    residents, told = await start_swallowing(0)
    residents.stop(("a",), 0.0)
    assert Stopped(("a",)) not in told.messages
    await told.until(lambda: Stopped(("a",)) in told.messages)


async def test_an_agent_that_swallows_one_cancellation_gets_another_one(start_swallowing, monkeypatch):
    monkeypatch.setattr(module, "INSIST_PERIOD_S", 0.01)
    residents, told = await start_swallowing(1)
    residents.stop(("a",), 0.0)
    residents.stop(("a",), 0.0)  # answered once
    await told.until(lambda: isinstance(told.messages[-1], Stopped))
    assert told.messages[1:] == [Stopped(("a",))]


@pytest.mark.parametrize(("odd", "name"), [(False, "Swallows.swallow"), (True, "\\ud800" * 100)])
async def test_an_agent_that_swallows_its_cancellations_is_reported_and_not_said_to_have_stopped(
    start_swallowing, monkeypatch, odd, name
):
    monkeypatch.setattr(module, "INSIST_PERIOD_S", 0.01)
    residents, told = await start_swallowing(2, odd=odd)
    residents.stop(("a",), 0.0)
    await told.until(lambda: isinstance(told.messages[-1], Clinging))
    residents.stop(("a",), 0.0)
    message = f"code of default/ada goes on although it was cancelled: {name}"
    assert told.messages[1:] == [Clinging("a", message)]
    await residents.close(0.0)  # it keeps no worker from ending


async def test_templates_that_no_agent_has_are_forgotten_in_time(floor, monkeypatch):
    monkeypatch.syspath_prepend(SAMPLES)
    told = Told()
    residents = make_residents(floor, told)
    for number in range(500):
        uid = f"u{number}"
        residents.start((Template(uid, "t", python="sample_agents:Greeter"),), [StartAgent(uid, uid, uid)])
        await told.until_started(uid)
        if number:
            residents.stop((uid,), 0.0)
    assert len(residents._templates) <= 2 * module.TEMPLATES_UNUSED_MAX
    assert "u0" in residents._templates
    await residents.close(0.0)


async def test_lines_wait_while_the_node_does_not_read(floor):
    told, writable = Told(), False
    voice = Voice(floor, SystemClock(), told.send, lambda: writable)
    for number in range(10_000):
        voice.say("u", "INFO", str(number))
    voice.flush()
    assert told.messages == []
    writable = True
    voice.flush()
    (frame,) = told.messages
    assert isinstance(frame, Logs)
    assert frame.lines[0].message == "5000"
    assert "5000 lines were dropped" in frame.lines[-1].message


async def test_few_unfinished_lines_are_held_however_many_agents_print(floor, monkeypatch):
    said: list[str] = []
    voice = Voice(floor, SystemClock(), lambda _: None)
    monkeypatch.setattr(voice, "say", lambda uid, _level, text: said.append(f"{uid} {text}"))
    printed = PrintedText(voice, "INFO")
    for number in range(1000):
        monkeypatch.setattr(voice, "speaker", lambda number=number: f"u{number}")
        printed.write("no end of line")
    assert len(printed._rest) < 100
    assert said[0] == "u0 no end of line"
