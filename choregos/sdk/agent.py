"""`Agent`: what the author of an agent inherits from.

An instance carries nothing but its context, so ten thousand of them fit into a process. Whoever runs it (a worker, or
`choregos.testing.AgentHarness`) gives it the context before `__init__` runs, calls `on_start` once before its first
call and `on_stop` once after its last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from choregos.mesh.routes import Answer, Target
from choregos.sdk.context import AgentContext
from choregos.sdk.log import AgentLog

_NOTHING: Mapping[str, Any] = {}


class Agent:
    """A named, supervised, callable object. Methods marked with `@capability` are what others may call.

    Calls to one agent run concurrently in one event loop, so state needs no lock between two `await`s, and a method
    that computes long should be a plain `def`: it runs in a thread.
    """

    _context: AgentContext

    @property
    def name(self) -> str:
        return self._context.name

    @property
    def namespace(self) -> str:
        return self._context.namespace

    @property
    def labels(self) -> Mapping[str, str]:
        return self._context.labels

    @property
    def settings(self) -> Mapping[str, Any]:
        """`settings` of the manifest."""
        return self._context.settings

    @property
    def env(self) -> Mapping[str, str]:
        """`env` of the manifest; of a dedicated agent also the process's environment."""
        return self._context.env

    @property
    def log(self) -> AgentLog:
        """A logger that knows whose it is: `self.log.info("answered", order=7)`."""
        return AgentLog(self._context)

    async def on_start(self) -> None:
        """Runs before the first call; if it raises, the agent is not ready and will be started again later."""

    async def on_stop(self) -> None:
        """Runs after the last call, within the grace period."""

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
        """Calls a method of another agent, found by its name or by a capability, and returns its result.

        Args:
            agent, capability: exactly one of them.
            method: empty for the only method of the capability.
            selector: labels the agent must have: `tier=gold`.
            timeout_s: 30 s if not given, and never more than the call being served has left.
            arguments: for arguments whose names are those of this method's own; joined with `named`.

        Returns:
            builtin types: dict, list, str, int, float, bool, bytes, datetime, None.

        Raises:
            choregos.foundation.errors.CallError: one subclass per way to fail.
        """
        named = {**arguments, **named} if arguments else named
        target = _target(self._context, agent, capability, selector)
        return (await _ask(self._context, target, method, named, timeout_s)).result

    async def call_detailed(
        self,
        *,
        agent: str = "",
        capability: str = "",
        method: str = "",
        selector: str = "",
        timeout_s: float | None = None,
        arguments: Mapping[str, Any] = _NOTHING,
    ) -> Answer:
        """As `call`, for those who want to know too which agent answered: `.result` and `.agent`."""
        target = _target(self._context, agent, capability, selector)
        return await _ask(self._context, target, method, arguments, timeout_s)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.namespace}/{self.name}>"


# Functions, so that no method of an author's class can come between.


def _target(context: AgentContext, agent: str, capability: str, selector: str) -> Target:
    if bool(agent) == bool(capability):
        raise TypeError("name either the agent or the capability to call")
    return Target(context.namespace, agent, capability, selector)


def _ask(
    context: AgentContext, target: Target, method: str, arguments: Mapping[str, Any], timeout_s: float | None
) -> Awaitable[Answer]:
    return context.ask(target, method, arguments, timeout_s=timeout_s, caller=f"{context.namespace}/{context.name}")
