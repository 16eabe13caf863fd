"""Commands beside agents and connections to their ports, by their nodes; fills `choregos.api.node_ports.NodeCommands`.

Output is pulled and input pushed, one request at a time of each (`wire.commands`). Meanwhile the node is told that the
command is still wanted, however slowly its output is taken; when that ends, so does the command.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from choregos.api.node_ports import Command
from choregos.assembly.services.of_node.answering import ANSWER_TIMEOUT_S, Asker
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Permanent, Temporary
from choregos.foundation.tasks import Tasks, logged
from choregos.messaging.transport import CallTransport
from choregos.store.instance import Instance
from choregos.wire.commands import (
    COMMANDS,
    DATA_BYTES_MAX,
    SILENCE_S,
    CommandReply,
    EndCommand,
    OpenConnection,
    ReadCommand,
    StartCommand,
    WriteCommand,
)

WAIT_S = SILENCE_S / 2
WANTED_PERIOD_S = SILENCE_S / 4


class BusNodeCommands:
    def __init__(self, transport: CallTransport, region: str, clock: Clock) -> None:
        self._asker: Asker[Any, CommandReply] = Asker(transport, region, COMMANDS, CommandReply)
        self._clock = clock

    def run(self, instance: Instance, command: Command) -> AbstractAsyncContextManager[_BusCommand]:
        """See `choregos.api.node_ports.NodeCommands.run`."""
        uid = instance.record.uid
        return self._held(instance.record.node, StartCommand(uid, command.arguments, command.tty, command.stdin))

    def connect(self, instance: Instance, port: int) -> AbstractAsyncContextManager[_BusCommand]:
        """See `choregos.api.node_ports.NodeCommands.connect`."""
        return self._held(instance.record.node, OpenConnection(instance.record.uid, port))

    @asynccontextmanager
    async def _held(self, node: str, request: StartCommand | OpenConnection) -> AsyncIterator[_BusCommand]:
        reply = await self._asker.ask(node, request)
        if reply.refusal:
            raise Permanent(reply.refusal)
        running = _BusCommand(self._asker, node, reply.command)
        async with Tasks(on_failure=logged) as tasks:
            tasks.start(self._want(running), f"want command {reply.command}")
            try:
                yield running
            finally:
                await running.end()

    async def _want(self, running: _BusCommand) -> None:
        with contextlib.suppress(Temporary):  # whoever reads or writes is told the same
            while True:
                await self._clock.sleep(WANTED_PERIOD_S)
                await running.want()


class _BusCommand:
    def __init__(self, asker: Asker[Any, CommandReply], node: str, name: str) -> None:
        self._asker = asker
        self._node = node
        self._name = name
        self._ended = False

    async def read(self) -> tuple[Sequence[tuple[int, bytes]], int]:
        reply = await self._ask(ReadCommand(self._name, WAIT_S), WAIT_S)
        self._ended = reply.status >= 0
        return reply.output, reply.status

    async def write(self, data: bytes) -> None:
        while data:
            part = data[:DATA_BYTES_MAX]
            reply = await self._ask(WriteCommand(self._name, part, wait_s=WAIT_S), WAIT_S)
            data = data[min(reply.taken, len(part)) :]

    async def finish_input(self) -> None:
        await self._ask(WriteCommand(self._name, end=True, wait_s=WAIT_S), WAIT_S)

    async def resize(self, columns: int, rows: int) -> None:
        await self._ask(WriteCommand(self._name, columns=columns, rows=rows))

    async def want(self) -> None:
        await self._ask(WriteCommand(self._name))

    async def end(self) -> None:
        """Has the node end it; if it cannot be told it finds out by itself."""
        if not self._ended:
            with contextlib.suppress(Temporary):
                await self._ask(EndCommand(self._name))

    async def _ask(self, request: Any, wait_s: float = 0.0) -> CommandReply:
        reply = await self._asker.ask(self._node, request, ANSWER_TIMEOUT_S + wait_s)
        if reply.refusal:
            self._ended = True
            raise Temporary(reply.refusal)
        return reply
