"""What a node controller and the agent host say to each other: assignments in; statuses, events and logs out.

Data only. Invariant: everything the host reports of an agent carries the uid and binding it was assigned under, so a
late word about an old binding can be told from news.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from choregos.foundation.backoff import RESTART, Backoff
from choregos.wire.instances import Phase
from choregos.wire.worker import Template


class Assignment(msgspec.Struct, frozen=True, gc=False):
    """An agent that shall run here.

    Attributes:
        uid, binding: of its AgentRecord; another binding or template of a known uid replaces the running one.
        template: shared by every assignment of the same digest; equal digests mean equal templates.
        dedicated: it gets a worker process of its own.
        restarts: restarts of this uid so far, as its last status told; counting goes on from there.
        started: it was started under this binding before, as its last status told: its next start is a restart.
        grace_s: time to drain for the one it replaces here.
    """

    namespace: str
    name: str
    uid: str
    binding: int
    template: Template
    dedicated: bool = False
    restarts: int = 0
    grace_s: float = 30.0
    started: bool = False


class HostStatus(msgspec.Struct, frozen=True, gc=False):
    """How an assigned agent is; reported on every change, the last word per uid and loop turn only.

    After `Phase.STOPPED` the host has forgotten the agent. The other fields are those of
    `choregos.wire.instances.StatusRecord`.
    """

    namespace: str
    name: str
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


class HostEvent(msgspec.Struct, frozen=True, gc=False):
    """Something that happened once, which a person may want to know.

    Of many agents that suffer the same at once it is about the first, and its message has their number.

    Attributes:
        type: `Normal` or `Warning`.
        reason: a CamelCase word: `ImportFailed`, `StartFailed`, `StartTimeout`, `ProbeFailed`, `Blocked`,
            `Crashed`, `NotReady`, `WorkerLost`, `WorkerFailed`.
        namespace, name, uid: the agent; name and uid are empty if it is about a worker.
    """

    type: str
    reason: str
    message: str
    namespace: str
    name: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How a host runs its workers.

    Attributes:
        node, region: whose agents these are.
        servers, user, password: of nats-server, as the workers log in.
        workers: shared worker processes per namespace.
        max_in_flight: calls an agent serves at once before its callers are told `Overloaded`.
        hello_timeout_s: a worker that is not ready this long after its spawn is replaced.
        ping_period_s: how often a worker's event loop is asked for a sign of life.
        silence_s_max: a worker silent for this long is replaced even if no agent can be blamed.
        block_grace_s: time given beyond an agent's `block_timeout_s` for the worker to free itself.
        drain_s: leaving the host gives agents this long to finish; then their workers are killed.
        restart: delays between starts of an agent that fails, and of workers that cannot start.
        log_bytes_per_agent, log_bytes: bounds of the logs held in memory; the oldest lines go first.
        sockets: a directory of this host alone, made and removed by it, where its workers meet for calls; None: they
            call over the bus.
    """

    node: str
    region: str
    servers: tuple[str, ...]
    user: str
    password: str
    workers: int = 2
    max_in_flight: int = 1000
    hello_timeout_s: float = 30.0
    ping_period_s: float = 1.0
    silence_s_max: float = 30.0
    block_grace_s: float = 2.0
    drain_s: float = 5.0
    restart: Backoff = RESTART
    log_bytes_per_agent: int = 64 * 1024
    log_bytes: int = 32 * 1024 * 1024
    sockets: Path | None = None
