"""Agents for the tests of the host: one for each way to live and to fail."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path

from choregos import Agent, capability


class Greeter(Agent):
    @capability("greeting")
    async def greet(self, whom: str = "world") -> str:
        self.log.info("greeting %s", whom)
        return f"{self.name} greets {whom}"

    @capability("speaking")
    async def speak(self, text: str) -> None:
        print(text)

    @capability("identity")
    async def process(self) -> int:
        return os.getpid()

    @capability("identity")
    async def variable(self, name: str) -> dict[str, str | None]:
        return {"env": self.env.get(name), "process": os.environ.get(name)}

    @capability("asking")
    async def ask(self, agent: str) -> str:
        return await self.call(agent=agent, method="greet", whom=self.name)

    @capability("patience")
    async def slow(self, seconds: float) -> str:
        self.log.info("begun")
        await asyncio.sleep(seconds)
        return "done"

    async def healthy(self) -> bool:
        return True


class Hooked(Agent):
    """Writes down its hooks in the file of its settings."""

    def _note(self, what: str) -> None:
        with Path(self.settings["file"]).open("a", encoding="utf-8") as file:
            file.write(f"{what} {self.name}\n")

    async def on_start(self) -> None:
        await asyncio.sleep(0)
        self._note("start")

    async def on_stop(self) -> None:
        self._note("stop")

    @capability("identity")
    async def process(self) -> int:
        return os.getpid()


class LeavesItsProcessNumber(Agent):
    async def on_start(self) -> None:
        Path(self.settings["file"]).write_text(str(os.getpid()), encoding="ascii")


class Clingy(Agent):
    """Does not let go when it is told to."""

    @capability("identity")
    async def process(self) -> int:
        return os.getpid()

    @capability("clinging")
    async def cling_with_a_task(self) -> None:
        async def cling() -> None:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1000)

        self.task = asyncio.create_task(cling())

    @capability("clinging")
    def cling_with_a_thread(self) -> None:
        while True:
            time.sleep(1000)


class ClingsInItsHook(Agent):
    async def on_stop(self) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)


class ClingsInItsCall(Agent):
    @capability("clinging")
    async def cling(self) -> None:
        print("begun")
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)


class ClingsInItsProbe(ClingsInItsCall):
    async def healthy(self) -> None:
        await self.cling()


class Swallows(Agent):
    """Has a task that goes on after as many cancellations as its settings say."""

    async def on_start(self) -> None:
        swallowing = self.swallow()
        if self.settings["odd"]:
            swallowing.__qualname__ = "\ud800" * 20_000_000
        self.task = asyncio.create_task(swallowing)

    async def swallow(self) -> None:
        for _ in range(self.settings["cancellations"]):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
        await asyncio.sleep(1000)


class Ticks(Agent):
    """Writes into the file of its settings for as long as it can."""

    async def on_start(self) -> None:
        self.task = asyncio.create_task(self.tick())

    async def tick(self) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError), Path(self.settings["file"]).open("a") as file:
                file.write(f"{os.getpid()}\n")
                file.flush()
                await asyncio.sleep(0.01)


class StartsInTurns(Agent):
    """Its `on_start` waits until the file of its settings is there."""

    async def on_start(self) -> None:
        while not Path(self.settings["file"]).exists():
            await asyncio.sleep(0.01)


class SaysMuch(Agent):
    """Fails with more words than a status shall hold."""

    async def on_start(self) -> None:
        raise ValueError("first word " + "x" * 1_000_000 + " last word")


class FailsToStart(Agent):
    async def on_start(self) -> None:
        raise ValueError("no database here")


class FailsToBeMade(Agent):
    def __init__(self) -> None:
        raise LookupError("no such setting")


class NeverStarts(Agent):
    async def on_start(self) -> None:
        await asyncio.Event().wait()


class Sick(Agent):
    """Ready and well until told otherwise."""

    well = True

    @capability("health")
    async def fall_ill(self) -> None:
        self.well = False

    @capability("health")
    async def recover(self) -> None:
        self.well = True

    async def healthy(self) -> bool:
        return self.well


class Blocker(Agent):
    @capability("blocking")
    async def spin(self) -> None:
        while True:
            pass

    @capability("blocking")
    async def spin_and_swallow(self) -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:
                pass

    @capability("blocking")
    async def sleep_wrongly(self) -> None:
        time.sleep(1000)

    @capability("blocking")
    async def spin_in_task(self) -> None:
        async def spin() -> None:
            while True:
                pass

        await asyncio.create_task(spin())

    @capability("blocking")
    async def hold_the_lock(self) -> None:
        # PyDLL keeps the interpreter's lock: no thread of this process runs Python until it returns.
        libc = ctypes.PyDLL(None)
        for _ in range(1000):
            libc.sleep(1000)

    @capability("blocking")
    async def crash(self) -> None:
        ctypes.string_at(0)

    @capability("identity")
    async def process(self) -> int:
        return os.getpid()


class BlocksWhileItIsMade(Agent):
    def __init__(self) -> None:
        while True:
            pass


class BlocksWhileItStarts(Agent):
    async def on_start(self) -> None:
        time.sleep(1000)


class BlocksInAProbe(Agent):
    async def healthy(self) -> bool:
        while True:
            pass


class CallsWithoutEnd(Agent):
    """Gives its neighbours no turn, though none of its own steps is long."""

    @capability("blocking")
    async def go_on(self, agent: str) -> None:
        while True:
            await self.call(agent=agent, method="greet", whom="nobody")


class NotAnAgent:
    pass


class Burner(Agent):
    """Uses processor time and memory."""

    @capability("burning")
    async def on_the_loop(self, seconds: float) -> None:
        _burn(seconds)

    @capability("burning")
    def in_a_thread(self, seconds: float) -> None:
        _burn(seconds)

    @capability("burning")
    async def in_a_child(self, seconds: float) -> int:
        """Starts a process that takes 50 MB and burns, and stays."""
        code = f"import time\nheld = b'x' * 50_000_000\nend = time.process_time() + {seconds}\n"
        code += "while time.process_time() < end: pass\nprint('done', flush=True)\ntime.sleep(600)"
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        assert child.stdout is not None
        await child.stdout.readline()
        return child.pid


def _burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
