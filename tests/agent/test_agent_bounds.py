"""What a worker may cost its node: descriptors, spawns, words, questions and time. No process is spawned here."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choregos.agent import process
from choregos.agent.contract import Assignment, HostEvent, HostSettings, HostStatus
from choregos.agent.frames import FrameLink
from choregos.agent.host import MESSAGE_LENGTH_MAX, AgentHost
from choregos.agent.pool import Pool, Worker
from choregos.agent.process import Ending, Patience, WorkerProcess, WorkerState
from choregos.agent.turns import FairTurns
from choregos.foundation.clock import SystemClock
from choregos.foundation.ids import SystemIds
from choregos.wire.instances import Phase
from choregos.wire.worker import (
    FRAME_BYTES_MAX,
    Configure,
    Failed,
    LogLine,
    Logs,
    Outcome,
    Ping,
    Readiness,
    Resolve,
    Resolved,
    Start,
    StartAgent,
    Started,
    Stop,
    Stopped,
    Template,
    ToNode,
)

SETTINGS = HostSettings("n", "local", (), "", "")
PATIENCE = Patience(lambda _: 1.0, 1.0, 1.0, 1.0)
TEMPLATE = Template("d", "t", python="m:C", start_timeout_s=5.0)


class Listener:
    """Of a pool or of a worker; remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.endings: list[Ending] = []

    def on_messages(self, _worker: Worker, messages: Any) -> None:
        self.heard.extend(messages)

    def on_output(self, _worker: Worker, line: str) -> None:
        raise AssertionError(line)

    def on_ended(self, _worker: Worker, ending: Ending) -> None:
        self.endings.append(ending)

    def block_timeout_s(self, _uid: str) -> float:
        return 1.0


def make_worker(host: str, listener: Any, *, namespace: str = "default") -> Worker:
    """One that says it is ready; what it is sent is in `sent`."""
    worker = Worker(Configure(host, "n", "local", namespace, (), "", ""), (namespace, ()), PATIENCE, listener)
    worker.process.state = WorkerState.READY
    worker.sent = []  # type: ignore[attr-defined]
    worker.process.send = worker.sent.append  # type: ignore[attr-defined, method-assign]
    return worker


def sent(worker: Worker, kind: type) -> list[Any]:
    return [message for message in worker.sent if isinstance(message, kind)]  # type: ignore[attr-defined]


# Spawning.


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def refuse(*_: object) -> Any:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def refuse_later(*_: object) -> Any:
    refuse()


@pytest.mark.parametrize("what", ["socketpair", "pipe", "marks", "map", "spawn"])
async def test_without_descriptors_a_spawn_is_an_ending_and_leaves_nothing_open(monkeypatch, what):
    match what:
        case "socketpair":
            monkeypatch.setattr(process.socket, "socketpair", refuse)
        case "pipe":
            monkeypatch.setattr(process.os, "pipe", refuse)
        case "marks":
            monkeypatch.setattr(process.os, "memfd_create", refuse)
        case "map":
            monkeypatch.setattr("choregos.agent.marks.mmap.mmap", refuse)
        case "spawn":
            monkeypatch.setattr(process, "_spawn", refuse_later)
    worker = make_worker("w", Listener())
    worker.process.state = WorkerState.SPAWNING
    spawning = FairTurns(1)
    before = descriptors()
    ending = await worker.process.run(spawning)
    assert descriptors() == before
    assert "Too many open files" in ending.message
    assert not ending.wanted
    assert spawning.free == 1


async def test_whatever_goes_wrong_with_a_worker_is_an_ending(monkeypatch):
    async def fail(*_: object) -> Ending:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(WorkerProcess, "run", fail)
    listener = Listener()
    pool = Pool(SETTINGS, listener, SystemClock(), SystemIds())
    pool.choose("default", TEMPLATE, dedicated=True)
    await pool.close(0.0)
    assert ["unforeseen" in ending.message for ending in listener.endings] == [True]
    assert list(pool) == []


async def test_however_many_workers_are_wanted_few_are_spawned_at_once(monkeypatch):
    under_way, most = 0, 0

    async def spawn(*_: object) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        refuse()

    monkeypatch.setattr(process, "_spawn", spawn)
    listener = Listener()
    pool = Pool(SETTINGS, listener, SystemClock(), SystemIds())
    for _ in range(200):
        pool.choose("default", TEMPLATE, dedicated=True)
    async with asyncio.timeout(30.0):
        while len(listener.endings) < 200:
            await asyncio.sleep(0)
    await pool.close(0.0)
    assert 1 <= most <= 2 * (os.cpu_count() or 1)


async def test_a_worker_that_is_not_needed_any_more_is_not_spawned(monkeypatch):
    monkeypatch.setattr(process, "_spawn", refuse_later)
    worker = make_worker("w", Listener())
    worker.process.state = WorkerState.SPAWNING
    worker.process.shutdown(0.0)
    ending = await worker.process.run(FairTurns(1))
    assert ending.wanted
    assert "Too many" not in ending.message


# Start frames.


async def test_start_frames_are_cut_by_the_size_of_their_templates():
    worker = make_worker("w", Listener())
    for number in range(5):
        settings = b" " * (FRAME_BYTES_MAX // 4) + b"{}"
        template = Template(f"d{number}", "t", python="m:C", settings=settings)
        for agent in range(3):
            worker.start(template, StartAgent(f"u{number}{agent}", "a", template.digest))
    worker.flush()
    starts = sent(worker, Start)
    assert len(starts) > 1
    assert sum(len(start.agents) for start in starts) == 15
    for start in starts:
        assert {agent.template for agent in start.agents} == {template.digest for template in start.templates}
        assert sum(len(template.settings) for template in start.templates) < FRAME_BYTES_MAX


async def test_a_template_that_fits_into_no_frame_fails_its_agents_and_no_others():
    listener = Listener()
    worker = make_worker("w", listener)
    huge = Template("huge", "t", python="m:C", settings=b" " * FRAME_BYTES_MAX)
    worker.start(huge, StartAgent("u1", "a", "huge"))
    worker.start(TEMPLATE, StartAgent("u2", "b", "d"))
    worker.flush()
    assert [outcome.reason for started in listener.heard for outcome in started.outcomes] == ["StartFailed"]
    assert [agent.uid for start in sent(worker, Start) for agent in start.agents] == ["u2"]


async def test_starts_wait_until_the_worker_has_read_what_it_was_sent():
    worker = make_worker("w", Listener())
    worker.process._link.pause_writing()
    worker.start(TEMPLATE, StartAgent("u", "a", "d"))
    worker.flush()
    assert sent(worker, Start) == []
    worker.process._link.resume_writing()
    assert len(sent(worker, Start)) == 1


async def test_a_start_that_is_never_heard_of_is_given_up():
    listener = Listener()
    worker = make_worker("w", listener)
    for uid in ("u1", "u2"):
        worker.start(TEMPLATE, StartAgent(uid, uid, "d"))
    worker.flush()
    for _ in range(15):
        worker.on_tick(worker.process, 1.0)
    worker.start_ended("u1")  # so others only wait for their turn
    for _ in range(20):
        worker.on_tick(worker.process, 1.0)
    assert listener.heard == []
    worker.on_tick(worker.process, 1.0)
    outcomes = [outcome for started in listener.heard for outcome in started.outcomes]
    assert [(outcome.uid, outcome.reason) for outcome in outcomes] == [("u2", "StartTimeout")]
    assert sent(worker, Stop) == [Stop(("u2",), 0.0)]
    assert not worker.shareable


# What the host takes from a worker.


class Node:
    """A host whose agents go to workers that are no processes: those of `workers`, by namespace."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statuses: dict[str, HostStatus] = {}
        self.events: list[HostEvent] = []
        self.workers: dict[str, Worker] = {}
        self.open_questions = 0
        self.host = AgentHost(
            SETTINGS,
            resolve=self._never_answer,
            on_statuses=lambda statuses: self.statuses.update((status.name, status) for status in statuses),
            on_event=self.events.append,
            on_stats=lambda *_: None,
            clock=SystemClock(),
            ids=SystemIds(),
        )
        monkeypatch.setattr(Pool, "choose", lambda _, namespace, *__, **___: self.workers[namespace])
        monkeypatch.setattr(
            Pool, "get", lambda _, host: next(worker for worker in self.workers.values() if worker.host == host)
        )
        for namespace in ("default", "other"):
            self.workers[namespace] = make_worker(f"w-{namespace}", self.host, namespace=namespace)

    async def _never_answer(self, *_: object) -> Resolved:
        self.open_questions += 1
        await asyncio.Event().wait()
        raise AssertionError

    async def start(self, *names: str, namespace: str = "default") -> None:
        self.host.assign([Assignment(namespace, name, f"u-{name}", 1, TEMPLATE) for name in names])
        await asyncio.sleep(0)

    async def hear(self, *messages: ToNode, namespace: str = "default") -> None:
        self.host.on_messages(self.workers[namespace], messages)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture
async def node(monkeypatch):
    node = Node(monkeypatch)
    yield node
    await node.host.__aexit__()


FLOOD = "first " + "x" * 1_000_000 + " last"


@pytest.mark.parametrize(
    "messages",
    [
        [Started((Outcome("u-ada", "StartFailed", FLOOD),))],
        [Started((Outcome("u-ada", FLOOD),))],
        [Started((Outcome("u-ada", "StaleCode", FLOOD),))],
        [Started((Outcome("u-ada", capabilities=("c" * 10_000,) * 10_000),))],
        [Started((Outcome("u-ada"),)), Readiness("u-ada", False, FLOOD)],
        [Started((Outcome("u-ada"),)), Failed("u-ada", FLOOD, FLOOD)],
    ],
)
async def test_a_status_is_short_whatever_the_worker_says(node, messages):
    await node.start("ada")
    await node.hear(*messages)
    status = node.statuses["ada"]
    assert len(status.message) <= MESSAGE_LENGTH_MAX
    assert len(status.reason) < 300
    assert sum(map(len, status.capabilities)) < 100_000
    assert len(status.capabilities) < 1000
    if status.message:
        assert status.message.startswith("first")
        assert status.message.endswith("last")


@pytest.mark.parametrize(
    "message", [Failed("u-ada", "B\x1b[2J", "\x1b[2J\x00"), Readiness("u-ada", False, "\x1b[2J\x00")]
)
async def test_nothing_that_a_worker_says_steers_a_terminal(node, message):
    await node.start("ada")
    await node.hear(Started((Outcome("u-ada"),)), message)
    status = node.statuses["ada"]
    assert status.message == "\\x1b[2J\\x00"
    assert status.reason.isprintable()


async def test_the_answer_to_a_stop_that_came_too_late_is_not_about_the_agent_that_has_come_since(node):
    worker = node.workers["default"]
    await node.start("ada")
    await node.hear(Started((Outcome("u-ada"),)))
    node.host.assign([Assignment("default", "ada", "u-ada", 2, TEMPLATE)])
    await asyncio.sleep(0)
    await node.hear(Failed("u-ada", "ProbeFailed", "sick"))  # said before the stop reached the worker
    await node.hear(Stopped(("u-ada",)))
    assert worker.residents == {"u-ada"}
    await node.hear(Started((Outcome("u-ada"),)))
    assert node.statuses["ada"].phase is Phase.RUNNING
    node.host.withdraw(["u-ada"], 1.0)
    await asyncio.sleep(0)
    await node.hear(Stopped(("u-ada",)))
    assert not worker.residents


async def test_the_last_words_of_a_worker_are_told_once_and_not_by_each_of_its_agents(node):
    names = [f"a{number}" for number in range(10)]
    await node.start(*names)
    node.host.on_ended(node.workers["default"], Ending("killed by SIGKILL", details="its last words:\n" + FLOOD))
    await asyncio.sleep(0)
    messages = {node.statuses[name].message for name in names}
    assert messages == {"worker w-default ended: killed by SIGKILL"}
    assert [event.reason for event in node.events] == ["WorkerLost"]
    assert "its last words" in node.events[0].message


async def test_the_open_questions_of_a_worker_are_bounded(node):
    await node.start("ada")
    await node.hear(*(Resolve(number, "bob") for number in range(3000)))
    assert node.open_questions == 1024
    refused = sent(node.workers["default"], Resolved)
    assert len(refused) == 3000 - 1024
    assert all(answer.message and not answer.candidates for answer in refused)


async def test_no_worker_writes_into_the_log_of_another_namespace(node):
    await node.start("ada")
    await node.hear(Logs((LogLine("u-ada", 1, "INFO", "mine"),)))
    await node.hear(Logs((LogLine("u-ada", 2, "INFO", "forged"), LogLine("", 3, "x" * 10**6, "y"))), namespace="other")
    log = node.host._logs._rings
    assert [line[3] for line in log["u-ada"].lines] == ["mine"]
    assert [line[3] for line in log["w-other"].lines] == ["forged", "y"]
    assert len(log["w-other"].lines[-1][2]) < 300


async def test_trouble_with_one_worker_holds_up_no_other(node, monkeypatch):
    def fail() -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(node.workers["default"], "flush", fail)
    await node.start("bob", namespace="other")
    await node.hear(Started((Outcome("u-bob"),)), namespace="other")
    node.host.assign([Assignment("default", "ada", "u-ada", 1, TEMPLATE)])
    node.host.assign([Assignment("other", "cid", "u-cid", 1, TEMPLATE)])
    node.host.withdraw(["u-bob"], 1.0)
    await asyncio.sleep(0)
    other = node.workers["other"]
    assert [agent.uid for start in sent(other, Start) for agent in start.agents] == ["u-bob", "u-cid"]
    assert sent(other, Stop) == [Stop(("u-bob",), 1.0)]
    phases = {name: status.phase for name, status in node.statuses.items()}
    assert phases == {"ada": Phase.STARTING, "bob": Phase.STOPPING, "cid": Phase.STARTING}


# The socket.


async def open_link(on_lost: Callable[[str], None], on_writable: Callable[[], None]) -> tuple[Any, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    link: FrameLink[Any] = FrameLink(ToNode, lambda _: None, on_lost, on_writable)
    await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
    return link, theirs


async def test_a_sender_learns_when_its_peer_reads_again():
    writable, lost = asyncio.Event(), asyncio.Event()
    link, peer = await open_link(lambda _: lost.set(), writable.set)
    while link.writable:
        link.send(Resolved(1, (), message="x" * 100_000))
    assert link.buffered > 0
    async with asyncio.timeout(10.0):
        while not writable.is_set():
            await asyncio.get_running_loop().sock_recv(peer, 1 << 20)
    assert link.writable
    link.close()
    await lost.wait()
    peer.close()


async def test_who_breaks_the_protocol_is_told_apart_from_who_leaves():
    reasons: asyncio.Queue[str] = asyncio.Queue()
    _, peer = await open_link(reasons.put_nowait, lambda: None)
    peer.send(b"\0\0\0\1\xc0")
    assert "broke the protocol" in await reasons.get()
    peer.close()
    _, peer = await open_link(reasons.put_nowait, lambda: None)
    peer.close()
    assert await reasons.get() == ""


async def test_a_worker_that_does_not_read_is_replaced(monkeypatch):
    monkeypatch.setattr(process, "BUFFERED_BYTES_MAX", 1000)
    monkeypatch.setattr(FrameLink, "buffered", 1001)
    worker = WorkerProcess(Configure("w", "n", "local", "default", (), "", ""), PATIENCE, Listener())  # type: ignore[arg-type]
    worker.state = WorkerState.READY
    worker.send(Ping(1))
    assert worker.state is WorkerState.LEAVING
    assert worker._verdict is not None
    assert "does not read" in worker._verdict.message
