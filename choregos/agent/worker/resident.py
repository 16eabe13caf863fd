"""One agent in a worker process: what calls, the floor and the watchdog see of it.

Invariant: all of its author's code runs on the floor (`run`), its tasks are known (`tasks`), `idle` is set exactly
when somebody waits for its last call and that has ended, and `over` is called once, when it is gone and its code is
too. Not known are its threads, and what it hands to the event loop as a plain callback: they end with the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any

from choregos.agent.runtimes.python import PythonCode
from choregos.agent.worker.grace import Grace
from choregos.agent.worker.importing import ThreadRun
from choregos.agent.worker.probes import ProbeTimer
from choregos.agent.worker.stepping import AgentBlocked, AgentInterrupted, Floor, Stepped
from choregos.messaging.tracebacks import Raised, explain, sendable
from choregos.sdk.binding import BoundAgent
from choregos.wire.worker import Template

_NAMES_MAX = 5
_NAME_LENGTH_MAX = 100


class State(Enum):
    STARTING = "starting"  # until on_start has returned
    RUNNING = "running"  # takes calls
    STOPPING = "stopping"  # finishes its calls
    GONE = "gone"


class Lodgings:
    """What the agents of one template share.

    Attributes:
        code: the class, once it was imported.
        importing: its import, while that is under way.
    """

    __slots__ = ("code", "env", "importing", "labels", "settings", "template")

    def __init__(self, template: Template, settings: Mapping[str, Any]) -> None:
        self.template = template
        self.settings = settings
        self.labels: Mapping[str, str] = dict(template.labels)
        self.env: Mapping[str, str] = dict(template.env)
        self.code: PythonCode | None = None
        self.importing: ThreadRun[PythonCode] | None = None


class Resident:
    """A `messaging.invocation.Callee` and a `stepping.Steppable`."""

    __slots__ = (
        "_floor",
        "_in_flight",
        "bound",
        "grace",
        "idle",
        "label",
        "name",
        "over",
        "probes",
        "shared",
        "state",
        "tasks",
        "uid",
    )

    def __init__(self, uid: str, namespace: str, name: str, shared: Lodgings, floor: Floor) -> None:
        self.uid = uid
        self.name = name
        self.label = f"{namespace}/{name}"
        self.shared = shared
        self.state = State.STARTING
        self.bound: BoundAgent | None = None  # from when its __init__ has returned
        self.tasks: set[asyncio.Task[Any]] | None = None  # those its code has started, and its hooks
        self.probes: list[ProbeTimer] | None = None
        self.idle: asyncio.Event | None = None
        self.grace: Grace | None = None  # once it is to end
        self.over: Callable[[], None] | None = None  # once it is gone, until its code is
        self._floor = floor
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Calls it is serving; kept by the `Invoker`."""
        return self._in_flight

    @in_flight.setter
    def in_flight(self, number: int) -> None:
        self._in_flight = number
        if number == 0:
            if self.idle is not None:
                self.idle.set()
            self._see_whether_over()

    @property
    def block_timeout_s(self) -> float:
        return self.shared.template.block_timeout_s

    def invoke(self, method: str, capability: str, arguments: bytes) -> Awaitable[bytes]:
        """See `Callee.invoke`."""
        assert self.bound is not None
        # Types of the author's are made of the arguments, so this is the agent's code already.
        outer = self._floor.enter(self)
        try:
            return self.run(self.bound.invoke(method, capability, arguments))
        except AgentBlocked as blocked:
            raise AgentInterrupted(str(blocked)) from blocked
        finally:
            self._floor.leave(outer)

    def explain(self, error: BaseException) -> Raised:
        """See `Callee.explain`."""
        outer = self._floor.enter(self)
        try:
            return explain(error)
        finally:
            self._floor.leave(outer)

    def run(self, coroutine: Any) -> Stepped:
        """The agent's coroutine, on the floor."""
        return Stepped(coroutine, self._floor, self)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """The task is cancelled when the agent ends, and the agent has not ended before it."""
        if self.tasks is None:
            self.tasks = set()
        self.tasks.add(task)
        task.add_done_callback(self._task_ended)
        if self.state is State.GONE:
            task.cancel()

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        assert self.tasks is not None
        self.tasks.discard(task)
        self._see_whether_over()

    def cancel_tasks(self) -> None:
        for task in tuple(self.tasks or ()):
            task.cancel()

    def end(self, over: Callable[[], None]) -> None:
        """It is gone: its tasks are cancelled, and `over` is called when its code has ended, which may be now."""
        self.state = State.GONE
        self.stop_probes()
        self.cancel_tasks()
        self.over = over
        self._see_whether_over()

    def _see_whether_over(self) -> None:
        if self.over is not None and not self.tasks and not self._in_flight:
            over, self.over = self.over, None
            over()

    def remains(self) -> str:
        """What of its code still runs, for people."""
        tasks = [_name_of(task) for task in self.tasks or ()]
        calls = [f"{self._in_flight} calls"] if self._in_flight else []
        others = [f"{len(tasks) - _NAMES_MAX} more tasks"] if len(tasks) > _NAMES_MAX else []
        return ", ".join(sorted(tasks)[:_NAMES_MAX] + others + calls)

    def stop_probes(self) -> None:
        probes, self.probes = self.probes or (), None
        for probe in probes:
            if (asked := probe.stop()) is not None:
                self.adopt(asked)


def _name_of(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    name = coroutine.name if isinstance(coroutine, Stepped) else ""
    return sendable((name or task.get_name())[:_NAME_LENGTH_MAX])
