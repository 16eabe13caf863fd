"""Agents that raise, return and log what nobody expects."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import Any

from choregos import Agent, capability


class Unspeakable(Exception):
    """Raises whenever somebody wants to read it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Endless(Exception):
    def __str__(self) -> str:
        while not self.args:
            pass
        return ""


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise LookupError("no name")


class WithoutName(Exception, metaclass=Nameless):
    pass


class Ending(BaseException):
    pass


def _syntax_error() -> BaseException:
    error = SyntaxError("odd")
    error.text = 3  # type: ignore[assignment]
    error.lineno = 1
    error.offset = 1
    return error


ERRORS: dict[str, Any] = {
    "unspeakable": Unspeakable,
    "unspeakable group": lambda: ExceptionGroup("many", [Unspeakable(), ValueError("known")]),
    "nameless": WithoutName,
    "surrogate": lambda: ValueError("\ud800"),
    "huge": lambda: ValueError("first word " + "x" * 5_000_000 + " last word"),
    "syntax": _syntax_error,
    "exit": lambda: SystemExit(4),
    "interrupt": lambda: KeyboardInterrupt("k"),
    "base": lambda: Ending("base"),
    "cancelled": asyncio.CancelledError,
    "generator exit": GeneratorExit,
}


@dataclass
class Picky:
    """An argument that does not want to be made."""

    text: str

    def __post_init__(self) -> None:
        raise ERRORS[self.text]()


class Odd(Agent):
    @capability("identity")
    async def process(self) -> int:
        return os.getpid()

    @capability("raising")
    async def throw(self, what: str) -> None:
        raise ERRORS[what]()

    @capability("raising")
    def throw_in_thread(self, what: str) -> None:
        raise ERRORS[what]()

    @capability("raising")
    async def throw_endless(self) -> None:
        raise Endless

    @capability("raising")
    async def throw_in_task(self, what: str) -> str:
        async def fail() -> None:
            raise ERRORS[what]()

        task = asyncio.create_task(fail())
        await asyncio.wait((task,))
        return f"{task.cancelled() or type(task.exception()).__name__}"

    @capability("raising")
    async def throw_in_callback(self, what: str) -> str:
        def fail() -> None:
            raise ERRORS[what]()

        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0.01)
        return "gone on"

    @capability("raising")
    async def stop_the_loop(self) -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "gone on"

    @capability("taking")
    async def take(self, picky: Picky) -> None:
        raise AssertionError(picky)

    @capability("returning")
    async def give(self, what: str) -> Any:
        nested: list[Any] = []
        for _ in range(100_000):  # deeper than Python 3.13 goes, which goes deeper than 3.11
            nested = [nested]
        values = {"object": object(), "surrogate": "\ud800", "deep": nested, "large": 2**70, "huge": "x" * 5_000_000}
        return values[what]

    @capability("logging")
    async def write(self) -> None:
        error = Unspeakable()
        self.log.info("field", error=error)
        self.log.info(error)
        self.log.info("argument %s", error)
        print("half a pair: \ud800")
        sys.stderr.write("last line\n")


class FailsOddly(Agent):
    """Where and how its settings say."""

    def __init__(self) -> None:
        self._fail("made")

    async def on_start(self) -> None:
        self._fail("started")

    async def on_stop(self) -> None:
        self._fail("stopped")

    async def healthy(self) -> bool:
        self._fail("probed")
        return True

    def _fail(self, where: str) -> None:
        if self.settings["where"] == where:
            raise ERRORS[self.settings["what"]]()
