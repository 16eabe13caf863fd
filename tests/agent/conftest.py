"""A host with real workers on a real nats-server, and a caller that finds what the host reports as ready."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from choregos.agent.host import AgentHost, Assignment, HostEvent, HostSettings, HostStatus
from choregos.foundation.backoff import Backoff
from choregos.foundation.bus.address import BusAddress
from choregos.foundation.clock import SystemClock
from choregos.foundation.ids import SystemIds
from choregos.mesh.caller import Caller
from choregos.mesh.routes import Target
from choregos.messaging.backends.nats import open_nats_transport
from choregos.messaging.deadlines import Deadlines
from choregos.wire.instances import Phase
from choregos.wire.node import LogReply, LogRequest
from choregos.wire.worker import CallStats, Candidate, Resolve, Resolved, Template

SAMPLES = str(Path(__file__).parent / "samples")
QUICK = Backoff(initial_s=0.05, max_s=0.4, jitter=0.0)
PATIENCE_S = 30.0

IDS = SystemIds()


def make_template(class_name: str, *, module: str = "sample_agents", **fields: Any) -> Template:
    """A template of one of the sample agents; its digest tells all its fields."""
    fields.setdefault("paths", (SAMPLES,))
    return Template(f"{module}:{class_name}:{fields!r}", "sample", python=f"{module}:{class_name}", **fields)


class Stage:
    """One host, all it has told, and the means to wait for it and to call its agents."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.statuses: dict[str, HostStatus] = {}
        self.history: list[HostStatus] = []
        self.events: list[HostEvent] = []
        self.stats: list[CallStats] = []
        self.host: AgentHost
        self.caller: Caller
        self._told = asyncio.Event()

    def on_statuses(self, statuses: Sequence[HostStatus]) -> None:
        self.history.extend(statuses)
        self.statuses.update((status.name, status) for status in statuses)
        self._told.set()

    def on_event(self, event: HostEvent) -> None:
        self.events.append(event)
        self._told.set()

    def on_stats(self, _namespace: str, stats: Sequence[CallStats]) -> None:
        self.stats.extend(stats)
        self._told.set()

    async def resolve(self, _namespace: str, question: Resolve) -> Resolved:
        found = tuple(
            Candidate(status.name, status.uid, status.host)
            for status in self.statuses.values()
            if status.ready and (status.name == question.agent or question.capability in status.capabilities)
        )
        return Resolved(question.request, found, "" if found else "none is ready")

    async def find(self, target: Target) -> Resolved:
        return await self.resolve(target.namespace, Resolve(0, target.agent, target.capability, target.selector))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until what the host tells makes `condition` true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._told.clear()
                await self._told.wait()

    async def until_running(self, *names: str, restarts: int = 0) -> None:
        await self.until(lambda: all(self.is_running(name, restarts) for name in names))

    def is_running(self, name: str, restarts: int = 0) -> bool:
        status = self.statuses.get(name)
        return status is not None and status.phase is Phase.RUNNING and status.ready and status.restarts >= restarts

    async def until_failed(self, name: str, reason: str) -> HostStatus:
        """The status with which the agent last went into BackOff for this reason."""
        found: list[HostStatus] = []

        def failed() -> bool:
            found[:] = [
                status
                for status in self.history
                if status.name == name and status.phase is Phase.BACKOFF and status.reason == reason
            ]
            return bool(found)

        await self.until(failed)
        return found[-1]

    def assign(self, template: Template, *names: str, dedicated: bool = False, binding: int = 1) -> None:
        self.host.assign(
            [
                Assignment(self.namespace, name, f"uid-of-{name}", binding, template, dedicated=dedicated)
                for name in names
            ]
        )

    def withdraw(self, *names: str, grace_s: float = 5.0) -> None:
        self.host.withdraw([f"uid-of-{name}" for name in names], grace_s)

    async def call(self, name: str, method: str, /, *, timeout_s: float = PATIENCE_S, **arguments: Any) -> Any:
        return await self.caller.call(Target(self.namespace, agent=name), method, arguments, timeout_s=timeout_s)

    async def log(self, name: str, **options: Any) -> LogReply:
        return await self.host.logs(LogRequest(1, f"uid-of-{name}", **options))


@pytest.fixture
def sample() -> Callable[..., Template]:
    return make_template


OpenStage = Callable[..., Any]


@asynccontextmanager
async def _stages(address: BusAddress) -> AsyncIterator[OpenStage]:
    deadlines = Deadlines()

    async with open_nats_transport(address, "tests", deadlines) as transport:

        @asynccontextmanager
        async def open_(**settings: Any) -> AsyncIterator[Stage]:
            stage = Stage(f"ns-{IDS.suffix()}")
            options: dict[str, Any] = {
                "servers": address.servers,
                "user": address.user,
                "password": address.password,
                "workers": 1,
                "restart": QUICK,
                "ping_period_s": 0.1,
                "block_grace_s": 0.5,
            }
            stage.caller = Caller(transport, stage.find, region="local", roll=random.random)
            stage.host = AgentHost(
                HostSettings(f"n-{IDS.suffix()}", "local", **(options | settings)),
                resolve=stage.resolve,
                on_statuses=stage.on_statuses,
                on_event=stage.on_event,
                on_stats=stage.on_stats,
                clock=SystemClock(),
                ids=IDS,
            )
            async with stage.host:
                yield stage
            await stage.caller.close()

        yield open_
    deadlines.close()


@pytest.fixture
def stages(nats_address: BusAddress) -> Callable[[], AbstractAsyncContextManager[OpenStage]]:
    """For a test with an event loop of its own: `async with stages() as open_stage`."""
    return lambda: _stages(nats_address)


@pytest.fixture
async def open_stage(nats_address: BusAddress) -> AsyncIterator[OpenStage]:
    """`async with open_stage(**settings) as stage`."""
    async with _stages(nats_address) as open_:
        yield open_


@pytest.fixture
async def stage(open_stage: OpenStage) -> AsyncIterator[Stage]:
    """With one shared worker per namespace and quick restarts."""
    async with open_stage() as stage:
        yield stage
