"""What a node answers on the bus, on `n.<region>._.<node>.<service>`: core request/reply, nothing stored."""

from __future__ import annotations

import msgspec

from choregos.wire.subjects import CLUSTER_SCOPE, token

VERSION = 1
LOGS, USAGE = "logs", "usage"


def node_subject(region: str, node: str, service: str) -> str:
    """`n.<region>._.<node>.<service>`: requests of one sort to one node."""
    return f"n.{token(region)}.{CLUSTER_SCOPE}.{token(node)}.{service}"


class LogRequest(msgspec.Struct, frozen=True, array_like=True):
    """Asks for the log of one agent that the node runs or ran.

    Attributes:
        uid: the agent.
        tail_lines: at most so many of the newest; negative: all that are kept.
        since_ms: only lines of this wall clock or later, milliseconds; 0: all.
        after: cursor of the last reply; 0 at first. Lines before it are not repeated.
        wait_s: with nothing newer than `after`, how long the node waits for a line before it answers with none.
        previous: what was written before the agent was last started again, instead of what was written since.
    """

    v: int
    uid: str
    tail_lines: int = -1
    since_ms: int = 0
    after: int = 0
    wait_s: float = 0.0
    previous: bool = False


class LogReply(msgspec.Struct, frozen=True, array_like=True):
    """Lines in the order they were written.

    Attributes:
        known: whether the node has a log of this agent at all.
        lines: (wall clock in milliseconds, level, text).
        cursor: pass as `after` of the next request.
    """

    v: int
    known: bool
    lines: tuple[tuple[int, str, str], ...]
    cursor: int


class UsageRequest(msgspec.Struct, frozen=True, array_like=True):
    """What do these agents use of the node?

    Attributes:
        uids: of agents; at most `UIDS_MAX`, so that the answer fits one message.
    """

    v: int
    uids: tuple[str, ...] = ()


UIDS_MAX = 5_000


class WorkerUsage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A worker and all it has started.

    Attributes:
        host: the worker's name.
        cores: processor time used, as an average of the last `window_s` seconds.
        memory: bytes that nobody else shares.
        agents: how many live in it.
        handling: shares are those of handling calls; else even, because none has handled any lately.
    """

    host: str
    cores: float
    memory: int
    window_s: float
    agents: int
    handling: bool


class AgentUsage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One agent.

    Attributes:
        worker: index into `UsageReply.workers`.
        share: its part of the worker's processor time.
    """

    uid: str
    worker: int
    share: float


class MachineUsage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The node's machine, whoever uses it; as `WorkerUsage`."""

    cores: float
    memory: int
    window_s: float


class UsageReply(msgspec.Struct, frozen=True, array_like=True):
    """Answers `UsageRequest`; agents that are in no worker are left out.

    Attributes:
        wall_ms: when it was measured; wall clock of the node.
    """

    v: int
    wall_ms: int
    workers: tuple[WorkerUsage, ...]
    agents: tuple[AgentUsage, ...]
    machine: MachineUsage
