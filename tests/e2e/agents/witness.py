"""Agents that leave traces of themselves, so that a test can tell who ran where, and whether anybody ran twice."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Any

from choregos import Agent, capability
from choregos.foundation.ids import SystemIds


class Witness(Agent):
    """Holds a lock on a file of its name while it lives: a twin on the same machine would find it taken.

    Settings: `places`, a directory, which must exist.
    """

    _file: Any = None

    async def on_start(self) -> None:
        places = Path(self.settings["places"])
        self._file = (places / self.name).open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with (places / "TWINS").open("a", encoding="utf-8") as twins:
                twins.write(f"{self.name} in process {os.getpid()}\n")
            raise
        self.instance = SystemIds().uid()

    async def on_stop(self) -> None:
        self._file.close()

    @capability("witness")
    async def who(self) -> dict[str, Any]:
        return {"name": self.name, "pid": os.getpid(), "instance": self.instance}


class Worker(Agent):
    """Does what a test asks for. Settings: `places` for the file of `wait_to_be_cancelled`."""

    @capability("work")
    async def who(self) -> dict[str, Any]:
        return {"name": self.name, "pid": os.getpid(), "version": self.settings.get("version", "")}

    @capability("work")
    async def add(self, left: int, right: int) -> int:
        return left + right

    @capability("work")
    async def echo(self, text: str) -> str:
        return text

    @capability("work")
    async def enlarge(self, length: int) -> str:
        return "x" * length

    @capability("work")
    async def fail(self) -> None:
        raise KeyError("the order is not in the book")

    @capability("work")
    async def say(self, text: str) -> None:
        self.log.info("said: %s", text)

    @capability("work")
    async def crash(self) -> None:
        """Takes its worker down."""
        os._exit(3)

    @capability("work")
    async def environment(self, name: str) -> list[str | None]:
        return [self.env.get(name), os.environ.get(name)]

    @capability("work")
    async def die(self, how: str) -> None:
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.Signals[how])
        await asyncio.Event().wait()

    @capability("work")
    async def wait_to_be_cancelled(self, note: str) -> None:
        path = Path(self.settings["places"]) / note
        path.write_text("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            path.write_text("cancelled")
            raise

    @capability("work")
    async def pass_on(self, agent: str, note: str) -> None:
        """Calls a neighbour with more time than its own caller has given."""
        await self.call(agent=agent, method="wait_to_be_cancelled", note=note, timeout_s=1000.0)


class Blocker(Agent):
    """Keeps the event loop to itself, in three ways."""

    @capability("blocking")
    async def spin(self) -> None:
        while True:
            pass

    @capability("blocking")
    async def sleep_wrongly(self) -> None:
        time.sleep(1000)

    @capability("blocking")
    async def hold_the_lock(self) -> None:
        # PyDLL keeps the interpreter's lock: no thread of this process runs Python until it returns.
        libc = ctypes.PyDLL(None)
        for _ in range(1000):
            libc.sleep(1000)

    @capability("identity")
    async def who(self) -> dict[str, Any]:
        return {"name": self.name, "pid": os.getpid()}


class Patient(Agent):
    """As healthy and as ready as the files `sick-NAME` and `busy-NAME` in `settings["places"]` say."""

    def _absent(self, what: str) -> bool:
        return not (Path(self.settings["places"]) / f"{what}-{self.name}").exists()

    async def healthy(self) -> bool:
        return self._absent("sick")

    async def unoccupied(self) -> bool:
        return self._absent("busy")

    @capability("patience")
    async def who(self) -> dict[str, Any]:
        return {"name": self.name, "pid": os.getpid()}


class FailsToStart(Agent):
    """Raises in `on_start` while the file `closed` exists in `settings["places"]`; notes each attempt in `attempts`."""

    async def on_start(self) -> None:
        places = Path(self.settings["places"])
        with (places / "attempts").open("a", encoding="utf-8") as attempts:
            attempts.write(".")
        if (places / "closed").exists():
            raise ValueError("the database is closed")


class NotFast(Agent):
    """Takes a moment to start, so that a replacement can be watched."""

    async def on_start(self) -> None:
        await asyncio.sleep(0.05)

    @capability("slowness")
    async def who(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.settings.get("version", "")}
