"""Records of the instance plane: many, written by machines, so small msgpack arrays. See `docs/architecture.md`.

An agent is the join of up to three records of one stream: `AgentRecord` (what and where, by the region's leader),
`StatusRecord` (how it is, by its node) and `DeletionRecord` (a request to go, by the API server). A status counts
only if its uid and binding are those of the agent record. What many agents share is one `TemplateRecord`, named by
its content, so an agent costs about 200 bytes.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

VERSION = 1


class Phase(StrEnum):
    """Where an agent is in its life; `docs/lifecycle-agent.md` has the state machine."""

    PENDING = "Pending"  # no node, or the node has not begun yet
    STARTING = "Starting"  # the worker is importing the class or running on_start
    RUNNING = "Running"  # started; takes calls if `ready`
    BACKOFF = "BackOff"  # failed; will be started again after a delay
    STOPPING = "Stopping"  # draining: finishes its calls, takes no new ones
    STOPPED = "Stopped"  # ended on request; the region's leader may remove the records
    REJECTED = "Rejected"  # the node refuses the binding (over its allocatable, cordoned): bind elsewhere


TEMPLATE_UNREADABLE = "TemplateUnreadable"
"""Reason of an agent whose template its node does not understand: another version of choregos wrote it."""

NOT_READY = "NotReady"
"""Reason of a running agent whose readiness probe has failed as often as it may."""


class TemplateRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What many agents share; immutable.

    Attributes:
        digest: first 16 hex digits of the SHA-256 of `spec`'s canonical JSON.
        spec: the AgentSet's `spec.template` as canonical JSON (sorted keys, no blanks).
    """

    v: int
    digest: str
    spec: bytes


class AgentRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an agent is and where it shall run.

    Attributes:
        uid: unique over all time; a recreated agent of the same name has another.
        agent_set: name of the owning AgentSet, same namespace.
        agent_set_uid: its uid.
        template: digest of the TemplateRecord.
        node: name of the AgentNode it is bound to; empty while none fits.
        binding: raised by one each time the agent is bound anew or restarted by order.
        created_ms: wall clock, milliseconds since the epoch.
        deletion_ms: when its deletion began; 0 while it shall live.
        grace_s: seconds it may take to drain once deletion has begun.
        reason, message: why it has no node; empty when it has one.
    """

    v: int
    uid: str
    agent_set: str
    agent_set_uid: str
    template: str
    node: str
    binding: int
    created_ms: int
    deletion_ms: int = 0
    grace_s: int = 30
    reason: str = ""
    message: str = ""


class StatusRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an agent is; written on transitions only.

    Attributes:
        uid, binding: of the agent record it speaks of; readers ignore it when they differ.
        phase: see `Phase`.
        ready: takes calls now.
        host: the worker that runs it: the last token of its call subject; empty while none does.
        restarts: how often this uid was started again after it had failed or lost its worker; counted at the start.
        since_ms: when this phase or readiness began; wall clock, milliseconds.
        reason: a stable CamelCase word: `Started`, `ImportFailed`, `StartFailed`, `ProbeFailed`, `Blocked`,
            `WorkerLost`, `OutOfCapacity`, …
        message: for people; may hold a traceback.
        capabilities: those the class declares, when the template declares none.
    """

    v: int
    uid: str
    binding: int
    phase: Phase
    ready: bool
    host: str
    restarts: int
    since_ms: int
    reason: str = ""
    message: str = ""
    capabilities: tuple[str, ...] = ()


class DeletionRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request to delete one agent; its set will make a new one unless it was scaled down too."""

    v: int
    uid: str
    grace_s: int = 30


class LeaseRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who holds a lease.

    Attributes:
        holder: identity of the holder: of one process start, or of a machine on which only one can run.
        duration_s: how long it holds after each renewal, on the observer's monotonic clock.
        renewals: raised at each renewal, so that every renewal is a new record.
        transitions: raised each time the holder changes.
    """

    v: int
    holder: str
    duration_s: float
    renewals: int
    transitions: int
