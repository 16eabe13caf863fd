"""The main program of a worker process, started by `choregos.agent.process` and by nobody else.

    python -m choregos.agent.worker SOCKET MARKS PARENT_PID

Two descriptors and the node's process id. Invariants: the process ends when its node does, or closes the socket; and,
when the node says `Shutdown`, whatever its agents' tasks and threads still do. It imports little, because a fleet's
start waits for it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from choregos.agent.frames import FrameLink
from choregos.agent.marks import STACK_SIGNAL, MarksWriter
from choregos.agent.worker.metering import AgentThreads, Meter
from choregos.agent.worker.resident import Resident
from choregos.agent.worker.residents import Residents
from choregos.agent.worker.stepping import Floor, Steppable
from choregos.agent.worker.voice import PrintedText, Voice
from choregos.agent.worker.watchdog import Watchdog
from choregos.foundation.bus.address import BusAddress
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import ChoregosError, Temporary
from choregos.foundation.settings import add_to_environment
from choregos.foundation.tasks import Tasks
from choregos.foundation.tether import die_with_parent
from choregos.foundation.timeout import timeout
from choregos.mesh.caller import Caller, LocalAgents
from choregos.mesh.routes import Target
from choregos.messaging.backends.nats import open_nats_transport
from choregos.messaging.backends.neighbours import open_neighbour_transport
from choregos.messaging.calls import CallServer
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.invocation import Invoker
from choregos.messaging.transport import CallTransport
from choregos.wire.subjects import call_subject
from choregos.wire.worker import (
    AskHandling,
    Configure,
    Handling,
    Hello,
    Invalidate,
    Ping,
    Pong,
    Resolve,
    Resolved,
    Shutdown,
    Start,
    Stats,
    Stop,
    ToWorker,
)

log = logging.getLogger(__name__)

STATS_PERIOD_S = 1.0
FIRST_MEASURE_S = 1.0
"""Of handling times, when none were measured before."""
RESOLVE_TIMEOUT_S = 5.0
_LOST_NODE_STATUS = 70
_LAST_TASKS_S = 0.5


class WorkerMain:
    """The worker's parts, and its end of the socket."""

    def __init__(self, marks: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = SystemClock()
        self._floor = Floor(MarksWriter(marks))
        self._watchdog = Watchdog(self._floor, self._clock, self._blocked)
        self._meter = Meter(self._floor)
        self._link: FrameLink[ToWorker] = FrameLink(ToWorker, self._received, self._link_lost)
        self._voice = Voice(self._floor, self._clock, self._link.send, lambda: self._link.writable)
        self._configured: asyncio.Future[Configure] = self._loop.create_future()
        self._shutdown: asyncio.Future[float] = self._loop.create_future()
        self._resolving: dict[int, asyncio.Future[Resolved]] = {}
        self._questions = 0
        self._status = _LOST_NODE_STATUS
        self._invoker: Invoker
        self._residents: Residents
        self._caller: Caller

    async def run(self, link: int) -> None:
        """Until the node says `Shutdown`; then the process ends here."""
        await self._loop.create_unix_connection(lambda: self._link, sock=socket.socket(fileno=link))
        configure = await self._configured
        async with AsyncExitStack() as stack:
            await self._open(configure, stack)
            self._listen_to_agents()
            self._watchdog.start()
            self._link.send(Hello(os.getpid()))
            self._loop.call_later(STATS_PERIOD_S, self._beat)
            grace_s = await self._shutdown
            await self._residents.close(grace_s)
        await self._cancel_others()
        self._watchdog.stop()
        self._voice.flush()
        self._status = 0
        self._link.finish()
        await self._loop.create_future()  # for `_link_lost`

    async def _cancel_others(self) -> None:
        """A moment for tasks that clean up; one that swallows its cancellation goes with the process."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_LAST_TASKS_S)

    def _link_lost(self, _reason: str) -> None:
        """Nothing is waited for: no task, no thread, no `atexit`; any of them may never end."""
        os._exit(self._status)

    async def _open(self, configure: Configure, stack: AsyncExitStack) -> None:
        address = BusAddress(configure.servers, configure.user, configure.password)
        deadlines = Deadlines()
        bus = await stack.enter_async_context(open_nats_transport(address, f"worker {configure.host}", deadlines))
        transport: CallTransport = bus
        if configure.sockets:
            neighbours = open_neighbour_transport(bus, Path(configure.sockets), deadlines)
            transport = await stack.enter_async_context(neighbours)
        self._invoker = Invoker(deadlines, configure.max_in_flight)
        self._caller = Caller(
            transport,
            self._resolve,
            region=configure.region,
            roll=random.random,
            local=LocalAgents(configure.namespace, self._find, self._invoker),
        )
        stack.push_async_callback(self._caller.close)
        self._residents = Residents(
            configure.namespace,
            floor=self._floor,
            invoker=self._invoker,
            ask=self._caller.ask,
            send=self._link.send,
            expect=self._watchdog.expect,
        )
        server = CallServer(transport, self._find, self._invoker)
        await server.serve(call_subject(configure.region, configure.namespace, configure.host))
        stack.push_async_callback(server.close)

    def _listen_to_agents(self) -> None:
        """From here on their tasks are known, and what they log or print goes to the node."""
        self._loop.set_task_factory(self._floor.task_factory)
        self._loop.set_default_executor(AgentThreads(self._floor, self._meter))
        logging.basicConfig(level=logging.INFO, handlers=(self._voice,), format="%(message)s", force=True)
        sys.stdout = PrintedText(self._voice, "INFO")
        sys.stderr = PrintedText(self._voice, "ERROR")

    def _find(self, name: str) -> Resident | None:
        return self._residents.find(name)

    # The socket.

    def _received(self, messages: Sequence[ToWorker]) -> None:
        for message in messages:
            self._obey(message)

    def _obey(self, message: ToWorker) -> None:
        match message:
            case Ping():
                self._link.send(Pong(message.number))
            case Start():
                if self._configured.result().dedicated:
                    for template in message.templates:
                        add_to_environment(dict(template.env))
                self._residents.start(message.templates, message.agents)
            case Stop():
                self._residents.stop(message.uids, message.grace_s)
            case Resolved():
                waiting = self._resolving.get(message.request)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            case Invalidate():
                self._caller.forget_hosts(message.hosts)
            case AskHandling():
                self._measure(message)
            case Configure():
                self._configured.set_result(message)
            case Shutdown():
                if not self._shutdown.done():
                    self._shutdown.set_result(message.grace_s)

    def _measure(self, question: AskHandling) -> None:
        delay_s = 0.0 if self._meter.is_on else FIRST_MEASURE_S
        self._meter.ask()
        self._loop.call_later(delay_s, self._tell_handling, question.request)

    def _tell_handling(self, request: int) -> None:
        self._link.send(Handling(request, tuple(self._meter.read().items())))

    async def _resolve(self, target: Target) -> Resolved:
        self._questions += 1
        number = self._questions
        waiting: asyncio.Future[Resolved] = self._loop.create_future()
        self._resolving[number] = waiting
        self._link.send(Resolve(number, target.agent, target.capability, target.selector))
        try:
            async with timeout(RESOLVE_TIMEOUT_S):
                return await waiting
        except TimeoutError as error:
            raise Temporary(f"the node did not say where {target} is") from error
        finally:
            del self._resolving[number]

    def _beat(self) -> None:
        stats = self._caller.take_stats()
        if stats:
            self._link.send(Stats(stats))
        self._meter.tick()
        self._loop.call_later(STATS_PERIOD_S, self._beat)

    def _blocked(self, resident: Steppable, seconds: float, stack: str) -> None:
        """Called in the watchdog's thread."""
        assert isinstance(resident, Resident)
        self._loop.call_soon_threadsafe(self._residents.blocked, resident, seconds, stack)


def _run_to_the_end(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    """Goes on whatever agents' callbacks do to the loop: stop it, or raise what asyncio lets through."""
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit):
            log.exception("a callback of an agent would have ended the worker")
    task.result()


def main(link: int, marks: int, parent_pid: int) -> int:
    """Runs the worker to its end; returns the process's exit status."""
    die_with_parent(parent_pid)
    faulthandler.register(STACK_SIGNAL, file=marks, all_threads=False)
    faulthandler.enable()

    # A KeyboardInterrupt is an agent's own doing then: nobody types at a worker.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    tasks = Tasks(on_failure=lambda name, error: None)  # its end is looked at below

    async def begin() -> asyncio.Task[None]:
        return tasks.start(WorkerMain(marks).run(link), "worker")

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            _run_to_the_end(runner.get_loop(), runner.run(begin()))
    except ChoregosError as error:
        print(error, file=sys.__stderr__)
        return 1
    return 0


if __name__ == "__main__":
    status = main(*(int(argument) for argument in sys.argv[1:4]))
    # Threads that run an agent's methods may never return; the process must.
    os._exit(status)
