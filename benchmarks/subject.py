"""Runs what is measured as a process of its own and speaks with it in lines; see `benchmarks.lines`.

Invariant: it ends with this process, however this one ends, and nothing of it is left when its context is closed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from choregos.foundation import tether

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".benchmarks"

STOP_TIMEOUT_S = 30.0
LINE_BYTES_MAX = 64 * 1024 * 1024
SAID_BYTES_MAX = 2000


class SubjectFailed(Exception):
    """It ended, or did not answer in time; says what it printed last."""


class Subject:
    """One program of `benchmarks.subjects`; an async context manager.

    Args:
        python: the interpreter.
        program: module and arguments.
        secret: sent as its first line, so that it stands in no list of processes.
        timeout_s: for each answer.
    """

    def __init__(self, python: str | Path, *program: str, secret: str = "", timeout_s: float = 300.0) -> None:
        self._command = [str(python), "-m", *program]
        self._secret = secret
        self._timeout_s = timeout_s
        self._log = CACHE / f"{program[0].rpartition('.')[2]}.log"
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        CACHE.mkdir(exist_ok=True)
        tied = [sys.executable, "-S", "-E", tether.__file__, str(os.getpid()), *self._command]
        with self._log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *tied,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                cwd=ROOT,
                limit=LINE_BYTES_MAX,
                env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            )
        try:
            if self._secret:
                self._say(self._secret)
            await self._answer()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        await self._end()

    async def ask(self, **command: Any) -> Any:
        """Its answer to a command.

        Raises:
            SubjectFailed: there is none.
        """
        self._say(command)
        return await self._answer()

    def _say(self, line: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def _answer(self) -> Any:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError as error:
            raise SubjectFailed(f"{self._command[2]} did not answer within {self._timeout_s:g} s") from error
        if not line:
            said = self._log.read_text(errors="replace")[-SAID_BYTES_MAX:].strip()
            raise SubjectFailed(f"{self._command[2]} ended: {said}")
        return json.loads(line)

    async def _end(self) -> None:
        """Its input ends, so it does; what it started and left behind is killed."""
        assert self._process.stdin is not None
        try:
            family = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        for process in family:
            # psutil compares the start time too: a process id that was given to another is left alone.
            if process.is_running():
                process.kill()
