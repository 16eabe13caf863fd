"""What stands for nodes in the tests of the API server: their logs, measurements and commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from choregos.api.node_ports import AgentUse, Command, LogChoice, Measured, Use
from choregos.foundation.errors import Permanent, Temporary
from choregos.store.instance import Instance


@dataclass
class FakeLogs:
    """Two lines of every agent; the node `gone` cannot be reached; with `follow` a third line comes when allowed.

    Attributes:
        chosen: what was asked for last.
        quiet: set it to have it said once that there is no news.
    """

    more: asyncio.Event = field(default_factory=asyncio.Event)
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    chosen: LogChoice = field(default_factory=LogChoice)

    async def lines(self, instance: Any, choice: LogChoice) -> Any:
        self.chosen = choice
        if instance.record.node == "gone":
            raise Temporary("node gone cannot be reached")
        for number in (1, 2)[0 if choice.tail_lines is None else max(0, 2 - choice.tail_lines) :]:
            yield number * 1000, "INFO", f"line {number}"
        if choice.follow:
            await self.more.wait()
            yield 3000, "INFO", "line 3"
            while True:
                await self.quiet.wait()
                self.quiet.clear()
                yield None


@dataclass
class FakeUsage:
    """Every agent uses 0.25 cores and 3 MiB, every node 1.5 cores and 2 GiB; the node `gone` is silent.

    Attributes:
        asked: names of the agents or nodes that were asked for.
    """

    asked: list[str] = field(default_factory=list)

    async def of_agents(self, instances: Sequence[Instance]) -> Measured[AgentUse]:
        self.asked += [one.name for one in instances]
        use = AgentUse(Use(0.25, 3 * 1024 * 1024, 15.0, 60_000), "w1", 4, True)
        found = {one.record.uid: use for one in instances if one.record.node not in ("gone", "")}
        return Measured(found, ("gone",) if any(one.record.node == "gone" for one in instances) else ())

    async def of_nodes(self, names: Sequence[str]) -> Measured[Use]:
        self.asked += names
        use = Use(1.5, 2 * 1024**3, 15.0, 60_000)
        return Measured({name: use for name in names if name != "gone"}, tuple(n for n in names if n == "gone"))


@dataclass
class FakeCommand:
    """Echoes what it is given as its output, until its input ends; then it ends with `status`.

    Attributes:
        heard: what it was told, in order.
        lost: its node is gone, whatever is asked.
        go_on: while it is not set nothing can be read.
    """

    command: Command
    status: int = 0
    heard: list[Any] = field(default_factory=list)
    lost: bool = False
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    output: asyncio.Queue[tuple[int, bytes] | None] = field(default_factory=asyncio.Queue)

    async def read(self) -> tuple[Sequence[tuple[int, bytes]], int]:
        self._check()
        await self.go_on.wait()
        chunk = await self.output.get()
        self._check()
        return ((), self.status) if chunk is None else ((chunk,), -1)

    async def write(self, data: bytes) -> None:
        self._check()
        self.heard.append(data)
        self.output.put_nowait((2 if data.startswith(b"!") else 1, data))

    async def finish_input(self) -> None:
        self.heard.append("end")
        self.output.put_nowait(None)

    async def resize(self, columns: int, rows: int) -> None:
        self.heard.append((columns, rows))

    def lose(self) -> None:
        self.lost = True
        self.output.put_nowait(None)

    def _check(self) -> None:
        if self.lost:
            raise Temporary("node n1 does not answer")


@dataclass
class FakeCommands:
    """Runs a `FakeCommand` for each agent, but not `forbidden-fruit`; and for each port but 22.

    Attributes:
        started: set with each; `running` is the last one.
        ports: connections, by port.
    """

    started: asyncio.Event = field(default_factory=asyncio.Event)
    running: FakeCommand | None = None
    ports: dict[int, FakeCommand] = field(default_factory=dict)

    @asynccontextmanager
    async def connect(self, instance: Instance, port: int) -> AsyncIterator[FakeCommand]:
        if port == 22:
            raise Permanent("the agent's worker does not listen on port 22")
        async with self.run(instance, Command(("connect", str(port)))) as running:
            self.ports[port] = running
            yield running

    @asynccontextmanager
    async def run(self, instance: Instance, command: Command) -> AsyncIterator[FakeCommand]:
        if command.arguments[0] == "forbidden-fruit":
            raise Permanent("64 commands run on this node already")
        self.running = running = FakeCommand(command)
        running.go_on.set()
        self.started.set()
        try:
            yield running
        finally:
            running.ended.set()
