"""Which agent's code the event loop is running at this moment.

All code of an agent runs inside `Stepped`: its calls, its hooks, its probes, and the tasks that they start. So the
watchdog knows whom to interrupt, the node whom to blame, and a line of output whose it is.

Invariants: `Floor.resident` is the agent whose code runs, None while the event loop or choregos itself does;
`Floor.turn` is another each time the loop gives control to an agent; `Floor.step` each time the floor changes hands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from pathlib import Path
from types import CoroutineType
from typing import Any, Protocol

from choregos.agent.marks import MarksWriter
from choregos.messaging.tracebacks import summary_of

_OURS = str(Path(__file__).resolve().parents[2])


class Steppable(Protocol):
    """What the floor asks of an agent."""

    @property
    def uid(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def block_timeout_s(self) -> float: ...

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """The agent's code has started this task."""


class Charge(Protocol):
    """Adds up who has had the floor."""

    def charge(self, uid: str) -> None:
        """Until now it was this agent's, nobody's if that is empty."""
        ...


class AgentBlocked(BaseException):
    """Raised by the watchdog in the middle of an agent's code. No `Exception`: the agent must not swallow it."""

    def __init__(self, resident: Steppable, message: str) -> None:
        super().__init__(message)
        self.resident = resident
        self.stack = ""


class AgentInterrupted(Exception):
    """What whoever waits for the agent gets in the place of `AgentBlocked`."""


def is_over(error: BaseException) -> bool:
    """Whether the task that caught this is being ended from outside, so that it must not go on.

    An agent may raise CancelledError too; that is a failure like any other.
    """
    task = asyncio.current_task()
    cancelled = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
    return cancelled or isinstance(error, GeneratorExit)


class Floor:
    """Who has it; one per worker, changed by its main thread only, read by the watchdog's."""

    __slots__ = ("_marks", "meter", "opener", "resident", "step", "turn")

    def __init__(self, marks: MarksWriter) -> None:
        self._marks = marks
        self.meter: Charge | None = None  # while somebody wants to know
        self.resident: Steppable | None = None
        self.opener: Steppable | None = None  # whom the loop gave control in this turn
        self.turn = 0
        self.step = 0

    def enter(self, resident: Steppable) -> Steppable | None:
        """Gives the floor to `resident`; returns who had it, for `leave`."""
        outer = self.resident
        if self.meter is not None:
            self.meter.charge("" if outer is None else outer.uid)
        if outer is None:
            self.turn += 1
            self.opener = resident
        self.step += 1
        self.resident = resident
        self._marks.begin(self.turn, resident.uid.encode())
        return outer

    def leave(self, outer: Steppable | None) -> None:
        if self.meter is not None and self.resident is not None:
            self.meter.charge(self.resident.uid)
        self.step += 1
        self.resident = outer
        if outer is None:
            self._marks.end()
        else:
            self._marks.begin(self.turn, outer.uid.encode())

    def task_factory(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """For `loop.set_task_factory`: tasks that an agent's own code starts are the agent's."""
        resident = self.resident
        if resident is None or _is_ours(coroutine):
            return asyncio.Task(coroutine, loop=loop, **options)
        task: asyncio.Task[Any] = asyncio.Task(_SteppedTask(coroutine, self, resident), loop=loop, **options)
        resident.adopt(task)
        return task


class Stepped(Coroutine[Any, Any, Any]):
    """A coroutine of an agent; each of its steps has the floor. Both awaitable and the coroutine of a task."""

    __slots__ = ("_coroutine", "_floor", "_resident")

    def __init__(self, coroutine: Any, floor: Floor, resident: Steppable) -> None:
        self._coroutine = coroutine
        self._floor = floor
        self._resident = resident

    @property
    def name(self) -> str:
        """Of the function, for people; empty for a coroutine of the author's own making, which may say anything."""
        return self._coroutine.__qualname__ if type(self._coroutine) is CoroutineType else ""

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # the interpreter asks for an iterator with send and throw

    def __iter__(self) -> Stepped:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        floor = self._floor
        outer = floor.enter(self._resident)
        try:
            return self._coroutine.send(value)
        except AgentBlocked as blocked:
            if blocked.resident is not self._resident:
                raise  # through the code of its neighbours it just passes
            raise AgentInterrupted(str(blocked)) from blocked
        except GeneratorExit as own:
            raise self._own_exit() from own
        finally:
            floor.leave(outer)

    def throw(self, *error: Any) -> Any:
        floor = self._floor
        outer = floor.enter(self._resident)
        try:
            return self._coroutine.throw(*error)
        except AgentBlocked as blocked:
            if blocked.resident is not self._resident:
                raise  # through the code of its neighbours it just passes
            raise AgentInterrupted(str(blocked)) from blocked
        except GeneratorExit as own:
            raise self._own_exit() from own
        finally:
            floor.leave(outer)

    def close(self) -> None:
        self._coroutine.close()

    def _own_exit(self) -> RuntimeError:
        """For a GeneratorExit: who ends a coroutine calls `close`, so the agent raised it, and it must not look like
        that end; PEP 479 does so with StopIteration."""
        return RuntimeError(f"{self._resident.label} raised GeneratorExit")


class _SteppedTask(Stepped):
    """Of a task that an agent has started. What would end the event loop, and all neighbours with it, ends the task."""

    __slots__ = ()

    def send(self, value: Any) -> Any:
        try:
            return super().send(value)
        except (KeyboardInterrupt, SystemExit) as error:
            raise self._failure(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return super().throw(*error)
        except (KeyboardInterrupt, SystemExit) as raised:
            raise self._failure(raised) from raised

    def _failure(self, error: BaseException) -> RuntimeError:
        return RuntimeError(f"a task of {self._resident.label} raised {summary_of(error)}")


def _is_ours(coroutine: Any) -> bool:
    code = getattr(coroutine, "cr_code", None)
    return code is not None and code.co_filename.startswith(_OURS)
