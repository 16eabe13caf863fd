"""One command as its node sees it: a process of ours that runs it (`launcher`), its streams, its end.

Invariant: after `run` has returned, however it came to that, no process of the command is left and no descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from choregos.agent.commands.descriptors import Input, Output
from choregos.foundation.timeout import timeout
from choregos.wire.commands import STDERR, STDOUT

LAUNCHER = str(Path(__file__).with_name("launcher.py"))
END_S_MAX = 3.0
"""The launcher's own patience, and more."""

END_OF_TRANSMISSION = b"\x04"
"""What a terminal takes for the end of input."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What shall run.

    Attributes:
        worker: process id; its resource limits are the command's.
        columns, rows: of the terminal; 0: as the system makes it.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    worker: int
    tty: bool = False
    stdin: bool = False
    columns: int = 0
    rows: int = 0


class CommandProcess:
    """A command; `run` is its whole life, to be made a task by its owner."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._news = asyncio.Event()
        self._output = Output(self._news.set)
        self._input: Input | None = None
        self._terminal = -1
        self._lifeline = -1
        self._status = -1
        self.started: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Until the command has ended; `started` says why it could not be started, if it could not."""
        try:
            process = await self._start()
        except BaseException as error:
            self._close()
            if not isinstance(error, OSError):
                raise
            self.started.set_result(error)
            return
        self.started.set_result(None)
        status = -1
        try:
            status = await process.wait()
            # Nobody is left who could write; what was written waits in the pipes for whoever reads slowly.
            while not self._output.ended and self._lifeline >= 0:
                await self._something()
        finally:
            await self._end(process)
            self._status = status if status >= 0 else 128 + signal.SIGKILL
            self._close()

    async def read(self, wait_s: float) -> tuple[tuple[tuple[int, bytes], ...], int]:
        """Output, and the exit status once there is no more of it, else -1. Waits for either as long as it may."""
        with contextlib.suppress(TimeoutError):
            async with timeout(wait_s):
                while not self._output and self._status < 0:
                    await self._something()
        return self._output.take(), self._status

    async def write(self, data: bytes, *, end: bool, wait_s: float) -> int:
        """How much of it need not be given again: was taken within `wait_s` seconds, or has nobody to take it."""
        if self._input is None:
            return len(data)
        taken = await self._input.write(data, wait_s) if data else 0
        if end and taken == len(data):
            await self._input.finish(wait_s)
        return taken

    def resize(self, columns: int, rows: int) -> None:
        """Of the terminal, if it has one."""
        if self._terminal >= 0:
            with contextlib.suppress(OSError):
                size = struct.pack("HHHH", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0)
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def end(self, why: str = "") -> None:
        """Ends the command and all it has started; `run` returns soon. Who still reads is told why."""
        if self._lifeline >= 0:
            if why:
                self._output.note(STDOUT if self._launch.tty else STDERR, f"\r\n{why}\r\n".encode())
            os.close(self._lifeline)
            self._lifeline = -1
            self._news.set()

    async def _something(self) -> None:
        await self._news.wait()
        self._news.clear()

    async def _start(self) -> asyncio.subprocess.Process:
        launch = self._launch
        with contextlib.ExitStack() as theirs:
            lifeline, self._lifeline = os.pipe()
            theirs.callback(os.close, lifeline)
            streams = self._open_terminal(theirs) if launch.tty else self._open_pipes(theirs)
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                LAUNCHER,
                str(lifeline),
                str(launch.worker),
                str(int(launch.tty)),
                *launch.arguments,
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                env=dict(launch.environment),
                cwd=launch.directory,
                pass_fds=(lifeline,),
                start_new_session=True,
            )

    def _open_terminal(self, theirs: contextlib.ExitStack) -> tuple[int, int, int]:
        self._terminal, line = os.openpty()
        theirs.callback(os.close, line)
        if self._launch.columns and self._launch.rows:
            self.resize(self._launch.columns, self._launch.rows)
        self._output.read_from(os.dup(self._terminal), STDOUT)
        if self._launch.stdin:
            self._input = Input(os.dup(self._terminal), END_OF_TRANSMISSION)
        return line, line, line

    def _open_pipes(self, theirs: contextlib.ExitStack) -> tuple[int, int, int]:
        ends = []
        for channel in (STDOUT, STDERR):
            ours, end = os.pipe()
            theirs.callback(os.close, end)
            self._output.read_from(ours, channel)
            ends.append(end)
        if not self._launch.stdin:
            return asyncio.subprocess.DEVNULL, ends[0], ends[1]
        end, ours = os.pipe()
        theirs.callback(os.close, end)
        self._input = Input(ours)
        return end, ends[0], ends[1]

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """The launcher ends what it has started; if it cannot any more, its own group is what can be named."""
        self.end()
        try:
            async with timeout(END_S_MAX):
                await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _close(self) -> None:
        self.end()
        self._output.close()
        if self._input is not None:
            self._input.close()
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1
        self._news.set()
