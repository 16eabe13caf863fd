"""Runs agents in the test's own process: no cluster, no network, the real meaning of calls.

Agents are found by name, capability and selector through a real directory (in memory), arguments are decoded into
their types, deadlines and errors are those of production, because the same caller, call server and resolver are at
work. What is missing: manifests, placement, probes, restarts, process boundaries.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar

import msgspec

from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import AlreadyExists, NotFound
from choregos.foundation.ids import SystemIds
from choregos.mesh.caller import Caller, LocalAgents
from choregos.mesh.resolver import Resolver
from choregos.mesh.routes import Statistics, Target
from choregos.messaging.backends.memory import MemoryBus, MemoryCallTransport
from choregos.messaging.calls import CallServer
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.invocation import Invoker
from choregos.resources.templates import canonical_digest
from choregos.sdk.agent import Agent
from choregos.sdk.binding import BoundAgent, bind, describe
from choregos.sdk.context import AgentContext
from choregos.store.backends.memory import MemoryLog
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.port import Fence
from choregos.wire.instances import VERSION, AgentRecord, Phase, StatusRecord, TemplateRecord
from choregos.wire.subjects import call_subject, epoch_subject, fence_subject

REGION = "local"
HOST = "harness"

A = TypeVar("A", bound=Agent)

_NOTHING: Mapping[str, Any] = {}


class AgentHarness:
    """A place for agents to live in during a test.

    ```python
    async with AgentHarness() as harness:
        knowledge = await harness.start(Knowledge, settings={"top": 3})
        assert await harness.call(capability="search", question="?") == []
    ```
    """

    def __init__(self, namespace: str = "default") -> None:
        self.namespace = namespace
        self._stack = AsyncExitStack()
        self._agents: dict[str, BoundAgent] = {}
        self._ids = SystemIds()
        self._fence = Fence(fence_subject(REGION, "region"), epoch_subject(REGION, "region"), 0)

    async def __aenter__(self) -> Self:
        clock = SystemClock()
        deadlines = Deadlines()
        log = MemoryLog(clock)
        self._writer = InstanceWriter(log, REGION)
        self._directory = await self._stack.enter_async_context(Directory(log, REGION, clock))
        self._resolver = Resolver(self._directory, Statistics(), clock.monotonic)
        self._invoker = Invoker(deadlines)
        transport = MemoryCallTransport(MemoryBus(), deadlines)
        self._stack.push_async_callback(transport.close)
        # The test calls over the bus, as a client does; agents call each other as neighbours of one worker.
        self._outside = self._caller(transport, None)
        self._inside = self._caller(transport, LocalAgents(self.namespace, self._agents.get, self._invoker))
        server = CallServer(transport, self._agents.get, self._invoker)
        self._stack.push_async_callback(server.close)
        await server.serve(call_subject(REGION, self.namespace, HOST))
        self._stack.push_async_callback(self._stop_all)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(
        self,
        agent_class: type[A],
        name: str = "",
        *,
        capabilities: Sequence[str] = (),
        labels: Mapping[str, str] = _NOTHING,
        settings: Mapping[str, Any] = _NOTHING,
        env: Mapping[str, str] = _NOTHING,
    ) -> A:
        """Makes an agent, runs its `on_start` and makes it known; returns it.

        Args:
            name: by default the class's name in lower case.
            capabilities: as a manifest declares them; by default those of the class.

        Raises:
            AlreadyExists: an agent of this name runs.
            Exception: what `__init__` or `on_start` raises.
        """
        name = name or agent_class.__name__.lower()
        if name in self._agents:
            raise AlreadyExists(f"agent {name} runs already")
        # A copy by way of JSON: what a manifest could not carry fails here too, and nothing is shared with the test.
        own_settings = msgspec.json.decode(msgspec.json.encode(settings))
        context = AgentContext(
            self.namespace, name, self._ids.uid(), self._inside.ask, dict(labels), own_settings, dict(env)
        )
        bound = bind(agent_class, context)
        await bound.start()
        self._agents[name] = bound
        offered = tuple(capabilities) or tuple(describe(agent_class))
        await self._announce(context, {"name": name, "capabilities": list(offered), "labels": dict(labels)})
        assert isinstance(bound.agent, agent_class)
        return bound.agent

    async def stop(self, name: str) -> None:
        """Takes the agent out, ends its calls, runs its `on_stop`.

        Raises:
            NotFound: no agent of this name runs.
            Exception: what `on_stop` raises.
        """
        bound = self._agents.pop(name, None)
        if bound is None:
            raise NotFound(f"no agent {name} runs")
        await self._writer.remove_agents([self._directory.get(self.namespace, name)], self._fence)
        await self._directory.wait_for(self._writer.revision)
        self._invoker.interrupt(bound.uid, f"agent {name} stops")
        await bound.stop()

    async def call(
        self,
        *,
        agent: str = "",
        capability: str = "",
        method: str = "",
        selector: str = "",
        timeout_s: float | None = None,
        arguments: Mapping[str, Any] = _NOTHING,
        **named: Any,
    ) -> Any:
        """As `Agent.call`, from outside."""
        if bool(agent) == bool(capability):
            raise TypeError("name either the agent or the capability to call")
        target = Target(self.namespace, agent, capability, selector)
        return await self._outside.call(target, method, {**arguments, **named}, timeout_s=timeout_s, caller="test")

    def _caller(self, transport: MemoryCallTransport, local: LocalAgents | None) -> Caller:
        caller = Caller(transport, self._resolver.resolve, region=REGION, roll=random.random, local=local)
        self._stack.push_async_callback(caller.close)
        return caller

    async def _announce(self, context: AgentContext, template: Mapping[str, Any]) -> None:
        digest, spec = canonical_digest(template)
        record = AgentRecord(VERSION, context.uid, context.name, context.uid, digest, "harness", 1, 0)
        status = StatusRecord(VERSION, context.uid, 1, Phase.RUNNING, True, HOST, 0, 0, "Started")
        await self._writer.put_templates([(context.namespace, TemplateRecord(VERSION, digest, spec))], self._fence)
        await self._writer.create_agents([(context.namespace, context.name, record)], self._fence)
        await self._writer.put_statuses([(context.namespace, context.name, status)])
        await self._directory.wait_for(self._writer.revision)

    async def _stop_all(self) -> None:
        for name in reversed(tuple(self._agents)):
            await self.stop(name)
