"""One worker process, as its node sees it: spawn, talk, signs of life, end.

A worker that does not answer pings is silent. Its marks (`choregos.agent.marks`) tell whether one step of one agent
lasts all that time: then the agent is to blame once it is over its `block_timeout_s` and a grace in which the
worker's own watchdog may free it. A worker silent for longer without such a step is replaced with nobody to blame.
Silence is counted in ticks of the node's own loop, so that a node that was itself suspended accuses nobody.

Invariants: `run` returns the ending once the process is gone and its last output is read, or says why there could be
no process; no process of the worker's group is left behind then, and no descriptor. A worker told to leave is gone
its grace and `LEAVING_MARGIN_S` later. Which agents live in it is the pool's affair.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from io import FileIO
from typing import Any, Protocol

import msgspec

from choregos.agent.frames import FrameLink
from choregos.agent.marks import STACK_SIGNAL, MarksReader
from choregos.agent.output import OutputPipe
from choregos.agent.turns import FairTurns
from choregos.foundation.settings import environment_with
from choregos.foundation.tether import WORKER_VARIABLE
from choregos.foundation.timeout import timeout
from choregos.resources.events import shortened
from choregos.wire.worker import Configure, Hello, Ping, Pong, Shutdown, ToNode

_LAST_LINES = 20
_LAST_OUTPUT_WAIT_S = 0.5
_STACK_WAIT_S = 0.2
_FAREWELL_S = 1.0

LEAVING_MARGIN_S = 3.0
"""What a worker gets beyond its grace: `on_stop` of the last agent, and saying goodbye to the bus."""

BUFFERED_BYTES_MAX = 64 * 1024 * 1024
"""A worker for which more than this waits does not read what it asks for."""

_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGSYS})


class WorkerState(Enum):
    SPAWNING = "spawning"  # until its Hello
    READY = "ready"
    LEAVING = "leaving"  # told to shut down, or being killed
    ENDED = "ended"


class Ending(msgspec.Struct, frozen=True, gc=False):
    """How a worker ended.

    Attributes:
        message: one line for people.
        details: what is known beyond that, such as its last output or the stack it hung in; may be empty.
        culprit: uid of the agent that brought it down, empty if none can be named.
        condemned: the node killed it, for its silence or for what an agent did.
        wanted: the node had told it to shut down.
        greeted: it had said Hello.
    """

    message: str
    details: str = ""
    culprit: str = ""
    condemned: bool = False
    wanted: bool = False
    greeted: bool = True


class Patience(msgspec.Struct, frozen=True, gc=False):
    """How long a silent worker is left alone.

    Attributes:
        block_timeout_s: what an agent of this uid may take for one step.
        block_grace_s: more time for the worker to free itself.
        silence_s_max: when no agent can be blamed.
        hello_s_max: from spawn to Hello.
    """

    block_timeout_s: Callable[[str], float]
    block_grace_s: float
    silence_s_max: float
    hello_s_max: float


class WorkerListener(Protocol):
    """What a worker's owner hears. All are called synchronously in the event loop."""

    def on_ready(self, worker: WorkerProcess) -> None:
        """It takes frames: it has said Hello, or has read what had piled up for it."""
        ...

    def on_tick(self, worker: WorkerProcess, period_s: float) -> None:
        """It lives, and another period of the node's loop has passed since its Hello."""
        ...

    def on_messages(self, worker: WorkerProcess, messages: Sequence[ToNode]) -> None:
        """Everything else it says, but for pongs."""
        ...

    def on_output(self, worker: WorkerProcess, line: str) -> None:
        """It wrote a line to its standard output or error."""
        ...


class WorkerProcess:
    """One worker; `run` is its whole life, to be made a task by its owner."""

    def __init__(self, configure: Configure, patience: Patience, listener: WorkerListener) -> None:
        self.configure = configure
        self.host = configure.host
        self.state = WorkerState.SPAWNING
        self.pid = 0  # until it is spawned, and again once the number may be another process's
        self._patience = patience
        self._listener = listener
        self._link: FrameLink[ToNode] = FrameLink(ToNode, self._received, self._link_lost, self._writable)
        self._marks: MarksReader | None = None
        self._silence = _Silence()
        self._pings = 0
        self._pongs = 0
        self._greeted = False
        self._wanted = False
        self._begun: Callable[[], None] | None = None  # lets the next worker be spawned
        self._verdict: Ending | None = None  # when the node decided to kill it
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)

    @property
    def takes_frames(self) -> bool:
        """Whether it has said Hello, and reads what it is sent."""
        return self.state is WorkerState.READY and self._link.writable

    def send(self, message: Any) -> None:
        """Sends one frame; lost without notice if the worker is gone, which its ending will tell.

        Raises:
            TooLarge: it is over the limit of a frame.
        """
        if self._link.buffered > BUFFERED_BYTES_MAX:
            self._condemn(f"it does not read: {self._link.buffered >> 20} MiB wait for it", "")
            return
        self._link.send(message)

    def shutdown(self, grace_s: float) -> None:
        """Asks it to stop its agents within `grace_s` seconds and to end; what is left then is killed."""
        self._wanted = True
        if self.state is WorkerState.READY:
            self.state = WorkerState.LEAVING
            self.send(Shutdown(grace_s))
            asyncio.get_running_loop().call_later(grace_s + LEAVING_MARGIN_S, self.kill)
        elif self.state is WorkerState.SPAWNING:
            self.kill()

    def kill(self) -> None:
        """Ends it now."""
        if self.state is WorkerState.ENDED:
            return
        self.state = WorkerState.LEAVING
        self._signal(signal.SIGKILL)

    def condemn(self, message: str, culprit: str) -> None:
        """Kills it for what one of its agents does, which it has said itself."""
        if self._verdict is None:
            self._verdict = Ending(message, culprit=culprit)
            self.kill()

    async def run(self, spawning: FairTurns) -> Ending:
        """From the spawn to the end of the process.

        Args:
            spawning: a turn is its namespace's from the spawn to Hello.
        """
        await spawning.take(self.configure.namespace)
        self._begun = spawning.give_back
        try:
            if self.state is WorkerState.LEAVING:  # while it waited for its turn
                return self._ended("not needed any more")
            status = await self._live()
        except OSError as error:  # no descriptor, no memory or no process to be had
            return self._ended(f"cannot start a worker process: {error}")
        finally:
            self._let_others_begin()
        if self._verdict is not None:
            return self._ended(self._verdict.message, self._verdict.details, self._verdict.culprit)
        return self._ended(self._describe(status), self._last_words(status), self._crashed(status))

    async def _live(self) -> int:
        """Spawns the process, stays until it is gone; returns its status, as of `subprocess`.

        Raises:
            OSError: it could not be spawned.
        """
        with contextlib.ExitStack() as ours:
            with contextlib.ExitStack() as theirs:
                near, far = socket.socketpair()
                ours.callback(near.close)
                theirs.callback(far.close)
                reading, writing = os.pipe()
                output = ours.enter_context(os.fdopen(reading, "rb", buffering=0))
                theirs.callback(os.close, writing)
                self._marks = MarksReader()
                process = await _spawn(self.host, far.fileno(), self._marks.descriptor, writing)
            self.pid = process.pid
            try:
                silent = await self._connect(near, output, ours)
                if self.state is WorkerState.LEAVING:  # while it was being spawned
                    self.kill()
                await process.wait()
            except BaseException:
                self.kill()
                raise
            finally:
                status = await process.wait()
                self._kill_group()
            with contextlib.suppress(TimeoutError):
                async with timeout(_LAST_OUTPUT_WAIT_S):
                    await silent.wait()
            return status

    async def _connect(self, link: socket.socket, output: FileIO, ours: contextlib.ExitStack) -> asyncio.Event:
        """Listens to it and tells it who it is; returns what is set when nobody can write output any more."""
        loop = asyncio.get_running_loop()
        pipe, said = await loop.connect_read_pipe(lambda: OutputPipe(self._said), output)
        ours.callback(pipe.close)
        await loop.create_unix_connection(lambda: self._link, sock=link)
        ours.callback(self._link.close)
        self._link.send(self.configure)
        return said.ended

    def tick(self, period_s: float) -> None:
        """Once per period of the node's loop: asks for a sign of life, judges its absence."""
        if self._verdict is not None or self._marks is None or not self.pid:
            return
        if self.state is WorkerState.SPAWNING:
            self._silence.spawning_s += period_s
            if self._silence.spawning_s > self._patience.hello_s_max:
                self._condemn(f"not ready {self._silence.spawning_s:.0f} s after its start", "")
        elif self.state is not WorkerState.ENDED:
            self._listener.on_tick(self, period_s)
            if self._pongs == self._pings:
                self._silence = _Silence()
                self._pings += 1
                self.send(Ping(self._pings))
            else:
                self._judge(period_s)

    def _judge(self, period_s: float) -> None:
        assert self._marks is not None
        step, uid = self._marks.read()
        silence = self._silence
        silence.seconds += period_s
        if uid and step == silence.step:
            silence.step_s += period_s
            if silence.step_s > self._patience.block_timeout_s(uid) + self._patience.block_grace_s:
                self._condemn(f"its event loop was blocked for {silence.step_s:.0f} s", uid)
                return
        else:
            silence.step, silence.step_s = step, 0.0
        if silence.seconds > self._patience.silence_s_max:
            self._condemn(f"it gave no sign of life for {silence.seconds:.0f} s", uid)

    def _condemn(self, message: str, culprit: str) -> None:
        """Kills it, after it had a moment to write down where it hangs."""
        if self._verdict is not None:
            return
        self._verdict = Ending(message, culprit=culprit)
        self.state = WorkerState.LEAVING
        self._signal(STACK_SIGNAL if self._greeted else signal.SIGKILL)
        asyncio.get_running_loop().call_later(_STACK_WAIT_S, self._execute)

    def _execute(self) -> None:
        if self.state is WorkerState.ENDED or self._marks is None or self._verdict is None:
            return
        self._verdict = msgspec.structs.replace(self._verdict, details=self._marks.stack())
        self.kill()

    def _received(self, messages: Sequence[ToNode]) -> None:
        others: list[ToNode] = []
        for message in messages:
            if isinstance(message, Pong):
                self._pongs = message.number
            elif isinstance(message, Hello):
                self._greeted = True
                self._let_others_begin()
                if self.state is WorkerState.SPAWNING:
                    self.state = WorkerState.READY
                    self._listener.on_ready(self)
            else:
                others.append(message)
        if others:
            self._listener.on_messages(self, others)

    def _writable(self) -> None:
        if self.state is WorkerState.READY:
            self._listener.on_ready(self)

    def _link_lost(self, reason: str) -> None:
        """It is ending, or broke the protocol: it may still say why, then it goes."""
        if self.state is not WorkerState.ENDED:
            self.state = WorkerState.LEAVING
            if reason and self._verdict is None:
                self._verdict = Ending(reason)
            asyncio.get_running_loop().call_later(_FAREWELL_S, self.kill)

    def _let_others_begin(self) -> None:
        if self._begun is not None:
            self._begun()
            self._begun = None

    def _signal(self, number: int) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _kill_group(self) -> None:
        """What the agents have started themselves must not outlive them. Called once, right after the wait.

        The process itself is reaped by then. Its number stays taken while its group has a member (the kernel gives
        no number that is in use as a group's), so no other group can be hit: that would need all numbers to be gone
        through, and the one who got this one to lead a group, between the reaping and this line.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.pid = 0

    def _said(self, line: str) -> None:
        self._last_lines.append(line)
        self._listener.on_output(self, line)

    def _crashed(self, status: int) -> str:
        """Who was running when the process fell; nobody is blamed for a kill from outside."""
        assert self._marks is not None
        by_itself = status > 0 or (status < 0 and -status in _CRASHES)
        return self._marks.read()[1] if by_itself else ""

    def _describe(self, status: int) -> str:
        if status >= 0:
            return f"ended with status {status}"
        by_whom = " (out of memory, or by hand)" if -status == signal.SIGKILL and not self._wanted else ""
        return f"killed by {_signal_name(-status)}{by_whom}"

    def _last_words(self, status: int) -> str:
        said = "\n".join(self._last_lines)
        return f"its last words:\n{shortened(said)}" if said and status != 0 else ""

    def _ended(self, message: str, details: str = "", culprit: str = "") -> Ending:
        self.state = WorkerState.ENDED
        if self._marks is not None:
            self._marks.close()
            self._marks = None
        return Ending(message, details, culprit, self._verdict is not None, self._wanted, self._greeted)


class _Silence:
    """How long a worker has been silent, in seconds of the node's ticks."""

    __slots__ = ("seconds", "spawning_s", "step", "step_s")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.spawning_s = 0.0
        self.step = -1  # the step it was in at the last tick
        self.step_s = 0.0  # how long it has been in that one


async def _spawn(host: str, link: int, marks: int, output: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "choregos.agent.worker",
        str(link),
        str(marks),
        str(os.getpid()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=(link, marks),
        # What agents start has it too, so the node's guard knows whose it was.
        env=environment_with({WORKER_VARIABLE: host}),
        # A signal typed at the terminal is for the node, which drains; and the group can be killed whole.
        start_new_session=True,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
