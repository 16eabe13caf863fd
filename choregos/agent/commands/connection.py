"""A connection to a port of an agent, as its node sees it: it is read, fed and ended as a command is.

Invariant: after `run` has returned, however it came to that, its descriptors are closed. When the agent closes its end
the connection is over, whatever is still on the way to the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from choregos.agent.commands.descriptors import Input, Output
from choregos.foundation.timeout import timeout
from choregos.wire.commands import STDERR, STDOUT

CONNECT_S_MAX = 3.0


class AgentConnection:
    """`run` is its whole life, to be made a task by its owner.

    Args:
        host, port: of the loopback.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._news = asyncio.Event()
        self._output = Output(self._news.set)
        self._input: Input | None = None
        self._socket: socket.socket | None = None
        self._wanted = True
        self._status = -1
        self.started: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Until either side has closed it; `started` says why it could not be made, if it could not."""
        try:
            with contextlib.closing(await self._connect()) as connected:
                self._output.read_from(os.dup(connected.fileno()), STDOUT)
                self._input, self._socket = Input(os.dup(connected.fileno())), connected
                self.started.set_result(None)
                while self._wanted and not self._output.ended:
                    await self._news.wait()
                    self._news.clear()
        except OSError as error:
            if not self.started.done():
                self.started.set_result(error)
        finally:
            self._status = 0
            self._output.close()
            if self._input is not None:
                self._input.close()
            self._news.set()

    async def read(self, wait_s: float) -> tuple[tuple[tuple[int, bytes], ...], int]:
        """What the agent has sent, and 0 once there is no more of it, else -1. Waits for either as long as it may."""
        with contextlib.suppress(TimeoutError):
            async with timeout(wait_s):
                while not self._output and self._status < 0:
                    await self._news.wait()
                    self._news.clear()
        return self._output.take(), self._status

    async def write(self, data: bytes, *, end: bool, wait_s: float) -> int:
        """How much of it need not be given again: was taken within `wait_s` seconds, or has nobody to take it."""
        taken = len(data) if self._input is None else await self._input.write(data, wait_s)
        if end and taken == len(data) and self._socket is not None:
            with contextlib.suppress(OSError):  # it has been closed
                self._socket.shutdown(socket.SHUT_WR)
        return taken

    def resize(self, columns: int, rows: int) -> None:
        """It is no terminal."""

    def end(self, why: str = "") -> None:
        """`run` returns soon. Who still reads is told why."""
        if self._wanted:
            if why:
                self._output.note(STDERR, why.encode())
            self._wanted = False
            self._news.set()

    async def _connect(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            async with timeout(CONNECT_S_MAX):
                await asyncio.get_running_loop().sock_connect(made, self._address)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            made.close()
            raise
        return made
