"""Between an agent class and whoever runs its instances: makes them, describes them, and calls them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

from choregos.messaging.tracebacks import Raised, explain
from choregos.sdk.agent import Agent
from choregos.sdk.context import AgentContext
from choregos.sdk.methods import Methods, methods_of


def describe(agent_class: type[Agent]) -> dict[str, list[str]]:
    """Capability → names of its methods.

    Raises:
        TypeError: the class cannot be run as an agent; says why.
    """
    _check(agent_class)
    return {
        capability: [method.name for method in offered]
        for capability, offered in methods_of(agent_class).by_capability.items()
    }


class BoundAgent:
    """An agent of this process: a `choregos.messaging.invocation.Callee`.

    Attributes:
        in_flight: calls being served; kept by the `Invoker`.
    """

    __slots__ = ("_methods", "agent", "in_flight", "label", "uid")

    def __init__(self, agent: Agent, context: AgentContext, methods: Methods) -> None:
        self.agent = agent
        self.uid = context.uid
        self.label = f"{context.namespace}/{context.name}"
        self.in_flight = 0
        self._methods = methods

    def invoke(self, method: str, capability: str, arguments: bytes) -> Awaitable[bytes]:
        """See `Callee.invoke`."""
        chosen = self._methods.find(method, capability)
        return chosen.run(self.agent, chosen.arguments(arguments))

    def explain(self, error: BaseException) -> Raised:
        """See `Callee.explain`."""
        return explain(error)

    @property
    def has_on_start(self) -> bool:
        """Whether `start` has anything to do; False lets a worker make thousands without awaiting each."""
        return type(self.agent).on_start is not Agent.on_start

    @property
    def has_on_stop(self) -> bool:
        return type(self.agent).on_stop is not Agent.on_stop

    async def start(self) -> None:
        """Runs `on_start`; raises what it raises."""
        if self.has_on_start:
            await run_hook(self.agent, "on_start")

    async def stop(self) -> None:
        """Runs `on_stop`; raises what it raises."""
        if self.has_on_stop:
            await run_hook(self.agent, "on_stop")


def bind(agent_class: type[Agent], context: AgentContext) -> BoundAgent:
    """Makes one agent. `__init__` takes no arguments and sees `self.name`, `self.settings` and so on already.

    Raises:
        TypeError: the class cannot be run as an agent; says why.
        Exception: whatever the author's `__init__` raises.
    """
    _check(agent_class)
    methods = methods_of(agent_class)
    agent = agent_class.__new__(agent_class)
    agent._context = context
    agent.__init__()  # type: ignore[misc]
    return BoundAgent(agent, context, methods)


async def run_hook(agent: Agent, name: str) -> Any:
    """Runs a method without arguments, such as a probe: `async def` here, a plain one in a thread.

    Raises:
        AttributeError: there is no such method.
        Exception: whatever it raises.
    """
    method = getattr(agent, name)
    if inspect.iscoroutinefunction(method):
        return await method()
    return await asyncio.to_thread(method)


def _check(agent_class: type[Agent]) -> None:
    if not (isinstance(agent_class, type) and issubclass(agent_class, Agent)):
        raise TypeError(f"{agent_class!r} is not a class that inherits from choregos.Agent")
