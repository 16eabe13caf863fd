"""What an agent is given by whoever runs it: its identity, its settings, and the way to other agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from choregos.mesh.routes import Answer, Target


class Ask(Protocol):
    """`choregos.mesh.caller.Caller.ask` is one."""

    async def __call__(
        self,
        target: Target,
        method: str = ...,
        arguments: Mapping[str, Any] = ...,
        *,
        timeout_s: float | None = None,
        caller: str = "",
    ) -> Answer: ...


@dataclass(frozen=True, slots=True)
class AgentContext:
    """Of one agent; what its neighbours share (ask, labels, env) should be the same objects.

    Attributes:
        labels: of the template.
        settings: free-form JSON of the manifest, `spec.agents[].settings`.
        env: variables of the manifest.
    """

    namespace: str
    name: str
    uid: str
    ask: Ask
    labels: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
