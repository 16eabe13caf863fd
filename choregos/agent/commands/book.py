"""The commands and connections of a node: who runs beside which agent, and whether somebody still wants it.

A command, or a connection to a port of the agent, is ended when whoever runs it has said so or has been silent for
`SILENCE_S`, when its agent leaves the worker it was started beside, and when the node ends. Invariants: at most
`COMMANDS_MAX` of both; each command runs in the environment, the directory and under the limits of its agent's worker,
as the worker's user; nobody is asked twice at the same time for the output of one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from choregos.agent.commands.connection import AgentConnection
from choregos.agent.commands.ports import listening
from choregos.agent.commands.process import CommandProcess, Launch
from choregos.foundation.clock import Clock
from choregos.foundation.errors import ChoregosError, Permanent
from choregos.foundation.ids import IdSource
from choregos.foundation.tasks import Tasks, logged
from choregos.wire.commands import (
    SILENCE_S,
    VERSION,
    CommandReply,
    CommandRequest,
    EndCommand,
    OpenConnection,
    ReadCommand,
    StartCommand,
    WriteCommand,
)

COMMANDS_MAX = 64
LOOK_S = 1.0
TERMINAL = "xterm"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an agent is.

    Attributes:
        label: `namespace/name` of the agent.
        environment: variables of its template.
        worker: name of its worker; empty while it is in none.
        pid: of the worker's process.
    """

    label: str
    environment: Mapping[str, str]
    worker: str = ""
    pid: int = 0


class _Running:
    """One command or connection.

    Attributes:
        heard_s: monotonic time of the last request about it.
    """

    def __init__(self, uid: str, worker: str, process: CommandProcess | AgentConnection, heard_s: float) -> None:
        self.uid = uid
        self.worker = worker
        self.process = process
        self.heard_s = heard_s
        self.reading = asyncio.Lock()
        self.writing = asyncio.Lock()


class CommandBook:
    """See the module.

    Args:
        place_of: where the agent of a uid is; None if there is none here.
    """

    def __init__(self, place_of: Callable[[str], Place | None], clock: Clock, ids: IdSource) -> None:
        self._place_of = place_of
        self._clock = clock
        self._ids = ids
        self._tasks = Tasks(on_failure=logged)
        self._running: dict[str, _Running] = {}
        self._starting = 0
        self._looking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._running)

    async def close(self) -> None:
        """Ends all of them."""
        await self._tasks.close()

    async def answer(self, request: CommandRequest) -> CommandReply:
        if isinstance(request, StartCommand | OpenConnection):
            return await self._start(request)
        running = self._running.get(request.command)
        if running is None:
            return CommandReply(VERSION, request.command, "the command has ended, or its node was started again")
        running.heard_s = self._clock.monotonic()
        match request:
            case ReadCommand():
                return await self._read(request, running)
            case WriteCommand():
                return await self._write(request, running)
            case EndCommand():
                running.process.end()
        return CommandReply(VERSION, request.command)

    async def _start(self, request: StartCommand | OpenConnection) -> CommandReply:
        if len(self._running) + self._starting >= COMMANDS_MAX:
            return CommandReply(VERSION, "", f"{COMMANDS_MAX} commands run on this node already")
        place = self._place_of(request.uid)
        if place is None or not place.worker or not place.pid:
            return CommandReply(VERSION, "", "the agent is in no worker process")
        self._starting += 1
        try:
            if isinstance(request, StartCommand):
                process: CommandProcess | AgentConnection = CommandProcess(_launch(request, place))
                what = request.arguments[0]
            else:
                process, what = await _connection(request, place), f"a connection to port {request.port}"
            task = self._tasks.start(process.run(), f"command beside {place.label}")
            await asyncio.wait((process.started, task), return_when=asyncio.FIRST_COMPLETED)
            failure = process.started.result() if process.started.done() else OSError("its node is ending")
            if failure is not None:
                return CommandReply(VERSION, "", f"it cannot be started: {str(failure) or 'it took too long'}")
        except ChoregosError as error:
            return CommandReply(VERSION, "", str(error))
        finally:
            self._starting -= 1
        name = self._ids.uid()
        self._running[name] = _Running(request.uid, place.worker, process, self._clock.monotonic())
        log.info("beside agent %s runs, as %s: %s", place.label, name, what)
        if self._looking is None or self._looking.done():
            self._looking = self._tasks.start(self._look(), "look after commands")
        return CommandReply(VERSION, name)

    async def _read(self, request: ReadCommand, running: _Running) -> CommandReply:
        if running.reading.locked():
            return CommandReply(VERSION, request.command, "its output is being read already")
        async with running.reading:
            output, status = await running.process.read(min(request.wait_s, SILENCE_S / 2))
        if status >= 0:
            self._running.pop(request.command, None)
        running.heard_s = self._clock.monotonic()
        return CommandReply(VERSION, request.command, "", output, status)

    async def _write(self, request: WriteCommand, running: _Running) -> CommandReply:
        if request.columns and request.rows:
            running.process.resize(request.columns, request.rows)
        taken = 0
        if request.data or request.end:
            async with running.writing:
                wait_s = min(request.wait_s, SILENCE_S / 2)
                taken = await running.process.write(request.data, end=request.end, wait_s=wait_s)
        return CommandReply(VERSION, request.command, taken=taken)

    async def _look(self) -> None:
        """Ends those that nobody wants any more, while there are any."""
        while self._running:
            await self._clock.sleep(LOOK_S)
            now_s = self._clock.monotonic()
            for name, running in tuple(self._running.items()):
                place = self._place_of(running.uid)
                if now_s - running.heard_s > SILENCE_S:
                    # Nobody will ask how it ended.
                    running.process.end()
                    del self._running[name]
                elif place is None or place.worker != running.worker:
                    running.process.end("the agent has left the worker that this ran beside")


async def _connection(request: OpenConnection, place: Place) -> AgentConnection:
    """
    Raises:
        Permanent: the agent's worker does not listen there.
    """
    ports = await asyncio.to_thread(listening, place.pid)
    host = ports.get(request.port)
    if host is None:
        others = f"only on {', '.join(map(str, sorted(ports)))}" if ports else "on no other either"
        raise Permanent(f"the agent's worker does not listen on port {request.port} of the loopback, {others}")
    return AgentConnection(host, request.port)


def _launch(request: StartCommand, place: Place) -> Launch:
    """
    Raises:
        Permanent: there is nothing to run, or the worker cannot be looked at.
    """
    if not request.arguments or not request.arguments[0] or any("\0" in each for each in request.arguments):
        raise Permanent("the command has no name, or a zero byte in it")
    try:
        worker = psutil.Process(place.pid)
        environment, directory = worker.environ(), worker.cwd()
    except (psutil.Error, OSError) as error:
        raise Permanent(f"the agent's worker cannot be looked at: {error}") from error
    identity = {"CHOREGOS_AGENT": place.label, "CHOREGOS_AGENT_UID": request.uid}
    terminal = {"TERM": TERMINAL} if request.tty else {}
    return Launch(
        request.arguments,
        {**environment, **terminal, **place.environment, **identity},
        directory,
        place.pid,
        request.tty,
        request.stdin,
        request.columns,
        request.rows,
    )
