"""One agent in a worker process: what calls, the floor and the watchdog see of it.

Invariant: all of its author's code runs on the floor (`run`), its tasks are known (`tasks`), and `idle` is set
exactly when somebody waits for its last call and that has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from enum import Enum
from typing import Any

from choregos.agent.runtimes.python import PythonCode
from choregos.agent.worker.grace import Grace
from choregos.agent.worker.importing import ThreadRun
from choregos.agent.worker.probes import ProbeTimer
from choregos.agent.worker.stepping import AgentBlocked, AgentInterrupted, Floor, Stepped
from choregos.messaging.tracebacks import Raised, explain
from choregos.sdk.binding import BoundAgent
from choregos.wire.worker import Template


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
        self.tasks: set[asyncio.Task[Any]] | None = None  # those its code has started, and its on_start
        self.probes: list[ProbeTimer] | None = None
        self.idle: asyncio.Event | None = None
        self.grace: Grace | None = None  # once it is to end
        self._floor = floor
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Calls it is serving; kept by the `Invoker`."""
        return self._in_flight

    @in_flight.setter
    def in_flight(self, number: int) -> None:
        self._in_flight = number
        if number == 0 and self.idle is not None:
            self.idle.set()

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
        """The task ends with the agent."""
        if self.tasks is None:
            self.tasks = set()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if self.state is State.GONE:
            task.cancel()

    def cancel_tasks(self) -> None:
        for task in tuple(self.tasks or ()):
            task.cancel()

    def stop_probes(self) -> None:
        for probe in self.probes or ():
            probe.stop()
        self.probes = None
