"""Questions to nodes over a bus in memory: answers, silence, and what cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from choregos.api.node_ports import Command
from choregos.assembly.services.of_node import usage as usage_module
from choregos.assembly.services.of_node.answering import Answerer, Asker
from choregos.assembly.services.of_node.commands import BusNodeCommands
from choregos.assembly.services.of_node.usage import BusNodeUsage
from choregos.foundation.errors import Permanent, Temporary
from choregos.foundation.tasks import Tasks
from choregos.messaging.backends.memory import MemoryBus, MemoryCallTransport
from choregos.messaging.deadlines import Deadlines
from choregos.store.instance import Group, Instance, Template
from choregos.wire.commands import (
    COMMANDS,
    CommandReply,
    CommandRequest,
    EndCommand,
    ReadCommand,
    StartCommand,
    WriteCommand,
)
from choregos.wire.instances import AgentRecord
from choregos.wire.node import (
    LOGS,
    USAGE,
    AgentUsage,
    LogReply,
    LogRequest,
    MachineUsage,
    UsageReply,
    UsageRequest,
    WorkerUsage,
    node_subject,
)


@pytest.fixture
async def transport() -> AsyncIterator[MemoryCallTransport]:
    deadlines = Deadlines()
    transport = MemoryCallTransport(MemoryBus(), deadlines)
    yield transport
    await transport.close()
    deadlines.close()


@pytest.fixture
async def serve(transport: MemoryCallTransport) -> AsyncIterator[Any]:
    """`await serve(node, service, request type, answer)`"""
    opened = []

    async def open_(node: str, service: str, request: Any, answer: Any) -> None:
        answerer: Answerer[Any, Any] = Answerer(transport, service, request, answer)
        await answerer.open("local", node)
        opened.append(answerer)

    yield open_
    for answerer in opened:
        await answerer.close()


async def test_a_question_is_answered_by_the_node_it_names(transport: Any, serve: Any) -> None:
    for node in ("n1", "n.2"):

        async def answer(request: LogRequest, node: str = node) -> LogReply:
            return LogReply(1, True, ((0, "INFO", f"{request.uid} on {node}"),), 7)

        await serve(node, LOGS, LogRequest, answer)
    asker: Asker[LogRequest, LogReply] = Asker(transport, "local", LOGS, LogReply)
    assert (await asker.ask("n.2", LogRequest(1, "u"))).lines[0][2] == "u on n.2"
    with pytest.raises(Temporary, match="node n3 does not answer for its logs"):
        await asker.ask("n3", LogRequest(1, "u"))


async def test_a_node_that_fails_at_a_question_goes_on_answering_others(transport: Any, serve: Any) -> None:
    async def answer(request: LogRequest) -> LogReply:
        if request.uid == "bad":
            raise LookupError(request.uid)
        return LogReply(1, True, (), 0)

    await serve("n1", LOGS, LogRequest, answer)
    asker: Asker[LogRequest, LogReply] = Asker(transport, "local", LOGS, LogReply)
    for payload in (b"", b"\xc1", msgspec.msgpack.encode("text"), msgspec.msgpack.encode([1])):
        with pytest.raises(Exception, match="no answer"):
            await transport.request(node_subject("local", "n1", LOGS), payload, 0.05)
    with pytest.raises(Temporary):
        await asker.ask("n1", LogRequest(1, "bad"), 0.05)
    assert (await asker.ask("n1", LogRequest(1, "good"))).known


async def test_an_answer_that_cannot_be_read_is_none(transport: Any, serve: Any) -> None:
    async def answer(_: LogRequest) -> MachineUsage:
        return MachineUsage(1.0, 1, 1.0)

    await serve("n1", LOGS, LogRequest, answer)
    asker: Asker[LogRequest, LogReply] = Asker(transport, "local", LOGS, LogReply)
    with pytest.raises(Temporary):
        await asker.ask("n1", LogRequest(1, "u"))


def instance(name: str, node: str) -> Instance:
    record = AgentRecord(1, f"uid-{name}", "s", "u", "d", node, 1, 0)
    return Instance(
        "default", name, record, 1, None, None, 1, Group("local", "s", "u", Template("default", "d", {}, 1))
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[UsageRequest]:
    monkeypatch.setattr(usage_module, "UIDS_MAX", 2)
    return []


async def test_agents_are_measured_in_parts_at_all_nodes_and_silent_ones_are_named(
    transport: Any, serve: Any, asked: list[UsageRequest]
) -> None:
    async def answer(request: UsageRequest) -> UsageReply:
        asked.append(request)
        workers = (WorkerUsage("w1", 2.0, 900, 15.0, 3, True), WorkerUsage("w2", 1.0, 500, 10.0, 1, False))
        agents = tuple(AgentUsage(uid, int(uid == "uid-e"), 0.25) for uid in request.uids if uid != "uid-b")
        return UsageReply(1, 77, workers, agents, MachineUsage(3.5, 9_000, 15.0))

    await serve("n1", USAGE, UsageRequest, answer)
    usage = BusNodeUsage(transport, "local")
    places = {"a": "n1", "b": "n1", "c": "n1", "d": "n2", "e": "n1", "f": ""}
    measured = await usage.of_agents([instance(name, node) for name, node in places.items()])
    assert [request.uids for request in asked] == [("uid-a", "uid-b"), ("uid-c", "uid-e")]
    assert measured.silent == ("n2",)
    assert set(measured.found) == {"uid-a", "uid-c", "uid-e"}
    one = measured.found["uid-a"]
    assert (one.use.cores, one.use.memory, one.worker, one.agents) == (0.5, 300, "w1", 3)
    assert (measured.found["uid-e"].use.window_s, measured.found["uid-e"].use.wall_ms) == (10.0, 77)
    nodes = await usage.of_nodes(["n1", "n2"])
    assert (nodes.found["n1"].cores, nodes.silent) == (3.5, ("n2",))


async def test_so_many_nodes_are_asked_at_once_and_no_more(transport: Any, serve: Any) -> None:
    present = most = 0
    go_on = asyncio.Event()

    async def answer(_: UsageRequest) -> UsageReply:
        nonlocal present, most
        present += 1
        most = max(most, present)
        if present == usage_module.NODES_AT_ONCE_MAX:
            go_on.set()
        await go_on.wait()
        present -= 1
        return UsageReply(1, 0, (), (), MachineUsage(1.0, 1, 1.0))

    names = [f"n{number}" for number in range(usage_module.NODES_AT_ONCE_MAX + 5)]
    for name in names:
        await serve(name, USAGE, UsageRequest, answer)
    measured = await BusNodeUsage(transport, "local").of_nodes(names)
    assert set(measured.found) == set(names)
    assert most == usage_module.NODES_AT_ONCE_MAX


class Node:
    """A node's answers about one command, which takes two bytes of input at a time."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.taken = b""
        self.refusal = ""
        self.silent = False

    async def answer(self, request: Any) -> CommandReply:
        self.asked.append(request)
        if self.silent:
            await asyncio.Event().wait()
        if self.refusal:
            return CommandReply(1, "", self.refusal)
        match request:
            case ReadCommand():
                return CommandReply(1, "c1", output=((1, b"out"), (2, b"err")), status=3)
            case WriteCommand() if request.data:
                self.taken += request.data[:2]
                return CommandReply(1, "c1", taken=len(request.data[:2]))
        return CommandReply(1, "c1")

    def ended(self) -> int:
        return sum(isinstance(request, EndCommand) for request in self.asked)


class Clock:
    """Sleeps until told."""

    def __init__(self) -> None:
        self.tick = asyncio.Event()

    def monotonic(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        await self.tick.wait()
        self.tick.clear()


@pytest.fixture
async def node(serve: Any) -> Node:
    node = Node()
    await serve("n1", COMMANDS, CommandRequest, node.answer)
    return node


async def test_a_command_is_fed_as_it_takes_and_ended_once(transport: Any, node: Node) -> None:
    commands = BusNodeCommands(transport, "local", Clock())
    async with commands.run(instance("a", "n1"), Command(("cat", "-u"), stdin=True)) as running:
        await running.write(b"hello")
        await running.resize(80, 24)
        await running.finish_input()
    assert node.asked[0] == StartCommand("uid-a", ("cat", "-u"), False, True)
    assert node.taken == b"hello"
    assert [request.data for request in node.asked if isinstance(request, WriteCommand)] == [
        *(b"hello", b"llo", b"o"),
        *(b"", b""),
    ]
    assert node.ended() == 1


async def test_a_command_that_has_ended_need_not_be_ended(transport: Any, node: Node) -> None:
    async with BusNodeCommands(transport, "local", Clock()).run(instance("a", "n1"), Command(("x",))) as running:
        assert await running.read() == (((1, b"out"), (2, b"err")), 3)
    assert node.ended() == 0


async def test_a_node_is_told_that_a_command_is_still_wanted(transport: Any, node: Node) -> None:
    clock = Clock()
    async with BusNodeCommands(transport, "local", clock).run(instance("a", "n1"), Command(("x",))):
        clock.tick.set()
        async with asyncio.timeout(10):
            while not any(isinstance(request, WriteCommand) for request in node.asked):
                await asyncio.sleep(0)


async def test_what_a_node_refuses_or_has_lost_is_told_apart(transport: Any, node: Node) -> None:
    commands = BusNodeCommands(transport, "local", Clock())
    node.refusal = "64 commands run on this node already"
    with pytest.raises(Permanent, match="64 commands"):
        async with commands.run(instance("a", "n1"), Command(("x",))):
            pass
    with pytest.raises(Temporary, match="does not answer for its commands"):
        async with commands.run(instance("a", "n2"), Command(("x",))):
            pass
    node.refusal = ""
    async with commands.run(instance("a", "n1"), Command(("x",))) as running:
        node.refusal = "the command has ended"
        with pytest.raises(Temporary, match="has ended"):
            await running.read()
    assert node.ended() == 0


async def test_leaving_in_the_middle_ends_the_command(transport: Any, node: Node) -> None:
    begun = asyncio.Event()

    async def follow() -> None:
        async with BusNodeCommands(transport, "local", Clock()).run(instance("a", "n1"), Command(("x",))):
            begun.set()
            await asyncio.Event().wait()

    async with Tasks() as tasks:
        following = tasks.start(follow(), "follow")
        await begun.wait()
        following.cancel()
        await asyncio.wait((following,))
    assert node.ended() == 1
