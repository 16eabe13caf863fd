"""Child processes that are kept running: started, watched, restarted with back-off, ended in order.

A child is ready when its `ready` check says so. One that ends without being told to is started again after 0.2, 0.4
… 30 s; each time `on_exit` is told how it ended. Children die with this process, however it dies
(`foundation.tether`), and live in sessions of their own, so that Ctrl-C in the terminal reaches only this process,
which then ends them in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from choregos.foundation import tether
from choregos.foundation.backoff import Backoff
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Permanent, Temporary
from choregos.foundation.timeout import timeout

log = logging.getLogger(__name__)

CHILD_RESTART = Backoff(initial_s=0.2, max_s=30.0, jitter=0.0, reset_after_s=60.0)
POLL_S = 0.02
READY_TIMEOUT_S = 60.0
GUARD_S_MAX = tether.KILLING_S_MAX + 1.0
"""What a guard takes at most to end what its program has left behind."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to run one child.

    Attributes:
        name: for people, and of its output file.
        log: where it logs; quoted when it ended without a word on its output.
        argv: program and arguments; the program is an absolute path.
        ready: returns True once the child serves; called every 20 ms until then.
        stop_timeout_s: from SIGTERM to SIGKILL.
        mark: of this program's processes among all of the machine's; if it has one, nothing that it starts outlives it
            (`foundation.tether`, where the platform can do that).
    """

    name: str
    argv: Sequence[str]
    ready: Callable[[], Awaitable[bool]]
    log: Path
    stop_timeout_s: float = 10.0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class ChildExit:
    """One unexpected end of a child."""

    name: str
    pid: int
    how: str
    restart_in_s: float
    output: str


def describe_exit(returncode: int) -> str:
    """`exited with status 3`, or `was killed by SIGKILL`."""
    if returncode >= 0:
        return f"exited with status {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


def tail_of(path: Path, lines: int = 15) -> str:
    """The last lines of a file, at most 8 kB; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


class Child:
    """One program that shall run.

    Invariant: between `start` and `stop` there is at most one process, and none outlives `stop`.

    Attributes:
        pid: of the program; of its guard until that has told, a few milliseconds after the spawn.
    """

    def __init__(self, spec: ChildSpec, *, logs: Path, clock: Clock, on_exit: Callable[[ChildExit], None]) -> None:
        self.spec = spec
        self.pid = 0
        self._output = logs / f"{spec.name}.out"
        self._clock = clock
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._reason = ""  # why we have ended it ourselves, until that is reported

    async def keep_running(self) -> None:
        """Watches and restarts it until cancelled. Call after `start_together`."""
        failures = 0
        while True:
            assert self._process is not None
            began = self._clock.monotonic()
            returncode = await self._process.wait()
            if self._clock.monotonic() - began > CHILD_RESTART.reset_after_s:
                failures = 0
            failures += 1
            delay_s = CHILD_RESTART.delay_s(failures)
            self._report(returncode, delay_s)
            await self._clock.sleep(delay_s)
            while not await self._respawned():
                failures += 1
                await self._clock.sleep(CHILD_RESTART.delay_s(failures))

    async def _respawned(self) -> bool:
        """Whether there is a process again; there may be none for want of memory, processes or files."""
        try:
            await self.spawn()
        except OSError as error:
            log.warning("%s cannot be started: %s", self.spec.name, error)
            return False
        return True

    def _report(self, returncode: int, delay_s: float) -> None:
        how = self._reason or describe_exit(returncode)
        self._reason = ""
        log.warning("%s (process %d) %s; starting it again in %.1f s", self.spec.name, self.pid, how, delay_s)
        # Who was killed had no time for last words.
        words = self.last_words() if returncode > 0 else ""
        self._on_exit(ChildExit(self.spec.name, self.pid, how, delay_s, words))

    def last_words(self) -> str:
        """What it printed or logged last."""
        return tail_of(self._output) or tail_of(self.spec.log)

    async def restart(self, reason: str) -> None:
        """Ends it, so that `keep_running` starts it again; `reason` completes "it was ended because"."""
        self._reason = f"was ended because {reason}"
        await self.stop()

    async def stop(self) -> None:
        """Ends it: SIGTERM, and SIGKILL if that is not enough."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        if await _has_ended(process, self.spec.stop_timeout_s):
            return
        log.warning("%s did not end within %.0f s; killing it", self.spec.name, self.spec.stop_timeout_s)
        # The program first: its guard, if it has one, then ends what it leaves behind.
        for pid in (self.pid, process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if await _has_ended(process, GUARD_S_MAX):
                return
        await process.wait()

    async def spawn(self) -> None:
        """Starts it, without waiting for anything. Raises: OSError."""
        tie, told = [str(os.getpid())], -1
        with self._output.open("wb") as output, contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            if self.spec.mark and tether.CAN_GUARD:
                told, telling = os.pipe()
                ours.callback(os.close, told)
                theirs.callback(os.close, telling)
                tie = ["guard", str(telling), self.spec.mark, *tie]
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-S",
                "-E",
                tether.__file__,
                *tie,
                *self.spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(telling,) if told >= 0 else (),
                start_new_session=True,
            )
            ours.pop_all()
        self.pid = self._process.pid
        if told >= 0:
            asyncio.get_running_loop().add_reader(told, self._guard_told, told)

    def _guard_told(self, pipe: int) -> None:
        asyncio.get_running_loop().remove_reader(pipe)
        number = os.read(pipe, 32)
        os.close(pipe)
        if number:  # else it has ended before
            self.pid = int(number)

    def check(self) -> None:
        """Raises: Permanent, it has ended before it was ready; the message has what it printed last."""
        assert self._process is not None
        if self._process.returncode is not None:
            how = describe_exit(self._process.returncode)
            raise Permanent(f"{self.spec.name} {how} before it was ready. It said:\n{self.last_words()}")


async def _has_ended(process: asyncio.subprocess.Process, within_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with timeout(within_s):
            await process.wait()
    return process.returncode is not None


async def start_together(children: Sequence[Child], clock: Clock) -> None:
    """Starts programs for the first time, all at once, and returns when each is ready.

    Raises:
        Permanent: one ended before all were ready.
        Temporary: one was not ready in time.
    """
    for child in children:
        await child.spawn()
    deadline = clock.monotonic() + READY_TIMEOUT_S
    for child in children:
        while not await child.spec.ready():
            for each in children:
                each.check()
            if clock.monotonic() > deadline:
                raise Temporary(
                    f"{child.spec.name} was not ready within {READY_TIMEOUT_S:.0f} s. It said:\n{child.last_words()}"
                )
            await clock.sleep(POLL_S)
