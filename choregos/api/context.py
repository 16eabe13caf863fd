"""What the API server is made of: stores, ports, limits. The composition root fills it in; nothing here acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from choregos.api.access.pace import RefusalLimits
from choregos.api.node_ports import Nodes
from choregos.api.sharing.fairness import FairnessLimits
from choregos.foundation.clock import Clock
from choregos.foundation.ids import IdSource
from choregos.mesh.routes import Target
from choregos.security.audit import AuditLog
from choregos.security.tokens import Tokens
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.resources import ResourceStore


class CallOutcome(Protocol):
    """A call that returned.

    Attributes:
        result: JSON-compatible value.
        agent: name of the agent that answered.
    """

    @property
    def result(self) -> Any: ...
    @property
    def agent(self) -> str: ...


class Caller(Protocol):
    """Calls agents on behalf of outside clients; `choregos.mesh.caller.Caller` is one."""

    async def ask(
        self, target: Target, method: str, arguments: Mapping[str, Any], *, timeout_s: float, caller: str
    ) -> CallOutcome:
        """Calls one of the target's agents.

        Raises:
            CallError: there is no result; the subclass says why.
        """
        ...


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """What one client may ask of the server.

    Attributes:
        body_bytes_max: largest request body; Kubernetes' own limit is 3 MiB.
        object_bytes_max: of an object as clients may store it; what the system adds, as a status, may go beyond.
        bodies_bytes_max: of all bodies that one flow (see `fairness`) has under way, each counted as 16 KiB at least.
        body_s: how long a body may take to come.
        answers_bytes_max: of large answers of one flow that its clients have not taken yet; beyond it none is made.
        watch_s_max: a watch that names no time is ended after this long, so that load spreads over replicas.
        bookmark_s: pause between two bookmarks of a quiet watch.
        call_s_default, call_s_max: time of an AgentCall that names none, and the longest it may name.
        write_attempts_max: how often a write without a resourceVersion is repeated on a conflict.
        quota_attempts_max: as much under a quota: others, at other servers or with the same object, came first.
        future_revision_s: how long a read waits for a revision that this server has not seen yet.
        list_items_max: objects in one answer; a longer list has to be asked for in chunks.
        streams_max: watches, logs, calls of agents and the like that one flow may have open at a time.
        fairness: how many requests are worked on at a time, and how many may wait.
        heavy: how many have a place at a time whose body, or object, takes long to work on, and how many may wait.
        refusals: how many are given to one who is refused again and again.
    """

    body_bytes_max: int = 3 * 1024 * 1024
    object_bytes_max: int = 1024 * 1024
    bodies_bytes_max: int = 64 * 1024 * 1024
    body_s: float = 30.0
    answers_bytes_max: int = 64 * 1024 * 1024
    watch_s_max: float = 3600.0
    bookmark_s: float = 60.0
    call_s_default: float = 30.0
    call_s_max: float = 600.0
    write_attempts_max: int = 8
    quota_attempts_max: int = 64
    future_revision_s: float = 3.0
    list_items_max: int = 50_000
    streams_max: int = 2_000
    fairness: FairnessLimits = field(default_factory=FairnessLimits)
    heavy: FairnessLimits = field(default_factory=lambda: FairnessLimits(seats=16, waiting_per_flow=64))
    refusals: RefusalLimits = field(default_factory=RefusalLimits)


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Everything a request can reach.

    Attributes:
        resources: declarative objects.
        events: core/v1 Events, on a log of their own.
        directory: the instances of this region, as read from their log.
        instances: writes requests to delete agents.
        tokens: of service accounts.
        audit: where privileged actions are recorded.
        audit_refused: where refusals are.
    """

    resources: ResourceStore
    events: ResourceStore
    directory: Directory
    instances: InstanceWriter
    caller: Caller
    nodes: Nodes
    clock: Clock
    ids: IdSource
    tokens: Tokens
    audit: AuditLog
    audit_refused: AuditLog
    limits: ApiLimits = field(default_factory=ApiLimits)
