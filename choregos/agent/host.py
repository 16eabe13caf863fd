"""The agent host of a node: turns assignments into agents that run in worker processes.

Level-triggered: `assign` and `withdraw` say what shall be, in any order and as often as you like; the host starts,
restarts and stops until it is so, and tells every change through its callbacks, coalesced per loop turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Self

from choregos.agent.contract import Assignment, HostEvent, HostSettings, HostStatus
from choregos.foundation.clock import Clock
from choregos.foundation.ids import IdSource
from choregos.wire.node import LogReply, LogRequest
from choregos.wire.worker import CallStats, Resolve, Resolved

__all__ = ["AgentHost", "Assignment", "HostEvent", "HostSettings", "HostStatus"]


class AgentHost:
    """Owner of a node's workers; an async context manager: leaving it drains and ends every worker.

    Args:
        resolve: answers a worker's question where agents are: (namespace, question) -> answer with its request number.
        on_statuses: called synchronously, with at most one status per agent and loop turn.
        on_event: called synchronously; similar events are merged.
        on_stats: called synchronously with what the workers of a namespace saw of agents: (namespace, stats).
    """

    def __init__(
        self,
        settings: HostSettings,
        *,
        resolve: Callable[[str, Resolve], Awaitable[Resolved]],
        on_statuses: Callable[[Sequence[HostStatus]], None],
        on_event: Callable[[HostEvent], None],
        on_stats: Callable[[str, Sequence[CallStats]], None],
        clock: Clock,
        ids: IdSource,
    ) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    def assign(self, assignments: Sequence[Assignment]) -> None:
        """These agents shall run; those that do already are left alone."""

    def withdraw(self, uids: Iterable[str], grace_s: float) -> None:
        """These agents shall end: each drains for up to `grace_s` seconds. An unknown uid is reported by nobody."""

    def uids(self) -> frozenset[str]:
        """Every agent the host knows: assigned, and not yet reported as stopped."""

    def workers(self) -> int:
        """Worker processes alive."""

    def invalidate(self, hosts: Sequence[str]) -> None:
        """Workers of other nodes that are gone: callers here drop their routes to them."""

    async def logs(self, request: LogRequest) -> LogReply:
        """Answers from memory; waits up to `request.wait_s` for a line beyond `request.after` if there is none yet."""
