"""The parts of a worker, in this process: permits to start, templates, and what is printed."""

from __future__ import annotations

import asyncio
import json
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
from choregos.wire.worker import Logs, StartAgent, Started, Stopped, Template

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
        async with asyncio.timeout(20.0):
            while not set(uids) <= set(self.started):
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
