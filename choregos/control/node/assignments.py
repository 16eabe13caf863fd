"""Directory → host: which agents shall run on this node.

Level-triggered: every change of a record that is, or was, bound here is compared with what was handed to the host, and
`rescan` compares all of them, for what no change told of. The last gate: a binding that would take more than the node
can allocate is refused with numbers, and the region binds the agent elsewhere. Invariants: what the host holds never
takes more than the allocatable; an agent is let go as soon as its record is not bound here any more; what was said of
a binding is said again if the directory does not show it, because another's word has overwritten it, and not otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from choregos.agent.contract import Assignment, HostStatus
from choregos.control.node.capacity import AGENTS
from choregos.control.node.statuses import StatusReporter
from choregos.control.node.templates import worker_template
from choregos.foundation.clock import Clock
from choregos.resources.quantity import format_binary, format_decimal, parse_all
from choregos.resources.templates import grace_s
from choregos.store.directory import Directory
from choregos.store.instance import Instance, InstanceChange
from choregos.wire.instances import TEMPLATE_UNREADABLE, Phase
from choregos.wire.worker import RUNTIME_NOT_FOUND, Template

log = logging.getLogger(__name__)

MOVED_GRACE_S = 1.0
"""Seconds for an agent that belongs elsewhere by now: another may be running already."""

ONE_AGENT = 1000
KINDS_MAX = 4096


class Host(Protocol):
    """The part of `choregos.agent.host.AgentHost` that is used here."""

    def assign(self, assignments: Sequence[Assignment]) -> None: ...

    def withdraw(self, uids: Iterable[str], grace_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class _Kind:
    """What agents of one template share."""

    template: Template
    dedicated: bool
    demand: Mapping[str, int]
    grace_s: float


@dataclass(slots=True)
class _Held:
    """An agent that was handed to the host and has not been reported as stopped.

    Attributes:
        leaving_s: monotonic time from when it shall end; None while it shall run.
        grace_s: how long it has from then.
        said: what the host last said of this binding.
    """

    binding: int
    kind: _Kind
    leaving_s: float | None = None
    grace_s: float = 0.0
    said: HostStatus | None = None


class Assignments:
    """See the module. `open` takes what is bound here already; after that changes are followed."""

    def __init__(self, node: str, directory: Directory, host: Host, statuses: StatusReporter, clock: Clock) -> None:
        self._node = node
        self._directory = directory
        self._host = host
        self._statuses = statuses
        self._clock = clock
        self._allocatable: Mapping[str, int] = {}
        self._held: dict[str, _Held] = {}  # by uid
        self._refused: dict[str, int] = {}  # uid → binding
        self._allocated: dict[str, int] = {}
        self._kinds: dict[tuple[str, str], _Kind] = {}  # by (namespace, digest)
        self._unsubscribe: Callable[[], None] = lambda: None

    def open(self, allocatable: Mapping[str, int]) -> None:
        """Takes over what is bound here, as after a restart: nothing of it runs, whatever its status says."""
        self._allocatable = dict(allocatable)
        self._statuses.subscribe(self._reported)
        self._unsubscribe = self._directory.on_change(self._changed)
        bound = sorted(self._directory.on_node(self._node), key=lambda one: (one.record.created_ms, one.name))
        self._statuses.report([self._restarted(one) for one in bound if one.ready])
        self._take(bound)

    def close(self) -> None:
        """Follows no more changes; what the host runs is the host's to end."""
        self._unsubscribe()

    @property
    def count(self) -> int:
        """Agents the host holds."""
        return len(self._held)

    def allocated(self) -> dict[str, int]:
        """What they take, in thousandths; every allocatable resource is named."""
        return {name: self._allocated.get(name, 0) for name in self._allocatable}

    def rescan(self) -> None:
        """Compares everything that is bound here with what the host holds; costs next to nothing where they agree."""
        bound = self._directory.on_node(self._node)
        here = {one.record.uid for one in bound}
        self._refused = {uid: binding for uid, binding in self._refused.items() if uid in here}
        moved = [uid for uid, held in self._held.items() if uid not in here and held.leaving_s is None]
        self._withdraw(moved, MOVED_GRACE_S)
        self._take(bound)

    def _changed(self, changes: Sequence[InstanceChange]) -> None:
        # A batch may hold several states of one agent, of which only the last one is true.
        touched: dict[tuple[str, str], None] = {}
        gone: set[str] = set()
        for change in changes:
            for one in (change.previous, change.instance):
                if one is not None and one.record.node == self._node:
                    touched[one.key] = None
                    gone.add(one.record.uid)
        current = [one for key in touched if (one := self._directory.find(*key)) is not None]
        bound = [one for one in current if one.record.node == self._node]
        gone.difference_update(one.record.uid for one in bound)
        for uid in gone:
            self._refused.pop(uid, None)
        self._withdraw([uid for uid in sorted(gone) if uid in self._held], MOVED_GRACE_S)
        self._take(bound)

    def _take(self, instances: Iterable[Instance]) -> None:
        assigned: list[Assignment] = []
        leaving: dict[float, list[str]] = {}
        answers: list[HostStatus] = []
        for one in instances:
            try:
                self._compare(one, assigned, leaving, answers)
            except Exception as error:  # of an odd template, say; the others are none the worse for it
                answers += self._puzzled(one, error)
        if answers:
            self._statuses.report(answers)
        if assigned:
            self._host.assign(assigned)
        for grace, uids in leaving.items():
            self._withdraw(uids, grace)

    def _compare(
        self, one: Instance, assigned: list[Assignment], leaving: dict[float, list[str]], answers: list[HostStatus]
    ) -> None:
        record = one.record
        held = self._held.get(record.uid)
        if record.deletion_ms:
            if held is None:
                if one.phase is not Phase.STOPPED:
                    answers.append(self._status(one, Phase.STOPPED, "Stopped", ""))
            elif held.leaving_s is None or record.grace_s < held.grace_s:
                leaving.setdefault(record.grace_s, []).append(record.uid)
        elif held is None or held.binding != record.binding:
            self._consider(one, assigned, answers)
        elif one.status is None and held.said is not None:
            answers.append(held.said)

    def _puzzled(self, one: Instance, error: Exception) -> Sequence[HostStatus]:
        if one.status is not None and one.status.reason == TEMPLATE_UNREADABLE:
            return ()
        log.error("agent %s/%s cannot be started", one.namespace, one.name, exc_info=error)
        return (
            self._status(one, Phase.PENDING, TEMPLATE_UNREADABLE, f"this node cannot read its template: {error!r}"),
        )

    def _consider(self, one: Instance, assigned: list[Assignment], answers: list[HostStatus]) -> None:
        record = one.record
        if self._refused.get(record.uid) == record.binding and one.status is not None:
            return
        if not one.template.revision:
            return  # it comes before the next scan
        kind = self._kind(one)
        held = self._held.get(record.uid)
        if held is None:
            if shortage := self._shortage(kind):
                self._refused[record.uid] = record.binding
                answers.append(self._status(one, Phase.REJECTED, "OutOfCapacity", shortage))
                return
            self._refused.pop(record.uid, None)
            self._held[record.uid] = _Held(record.binding, kind)
            self._charge(kind, 1)
        else:
            held.binding, held.leaving_s, held.said = record.binding, None, None
        restarts = 0 if one.status is None else one.status.restarts
        assigned.append(
            Assignment(
                one.namespace,
                one.name,
                record.uid,
                record.binding,
                kind.template,
                kind.dedicated,
                restarts,
                kind.grace_s,
                _was_started(one),
            )
        )

    def _shortage(self, kind: _Kind) -> str:
        """Which resource would not suffice, with numbers; empty if all do."""
        for name, asked in kind.demand.items():
            allocatable = self._allocatable.get(name, 0)
            free = allocatable - self._allocated.get(name, 0)
            if asked > free:
                text = format_binary if name == "memory" else format_decimal
                return f"asked for {text(asked)} {name}, {text(max(0, free))} of {text(allocatable)} are free"
        return ""

    def _kind(self, one: Instance) -> _Kind:
        template = one.template
        key = (one.namespace, template.digest)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()  # what is still in use is translated again
            resources = parse_all(template.spec.get("resources") or {})
            demand = {name: amount for name, amount in resources.items() if amount}
            kind = self._kinds[key] = _Kind(
                worker_template(template.digest, template.spec),
                template.spec.get("isolation") == "dedicated",
                {**demand, AGENTS: ONE_AGENT},
                grace_s(template.spec),
            )
        return kind

    def _charge(self, kind: _Kind, sign: int) -> None:
        for name, amount in kind.demand.items():
            self._allocated[name] = self._allocated.get(name, 0) + sign * amount

    def _withdraw(self, uids: Sequence[str], grace_s: float) -> None:
        """Has them end `grace_s` seconds after they began to."""
        now = self._clock.monotonic()
        by_time: dict[float, list[str]] = {}
        for uid in uids:
            held = self._held[uid]
            held.grace_s = grace_s
            if held.leaving_s is None:
                held.leaving_s = now
            by_time.setdefault(max(0.0, grace_s - (now - held.leaving_s)), []).append(uid)
        for time_s, group in by_time.items():
            self._host.withdraw(group, time_s)

    def _reported(self, statuses: Sequence[HostStatus]) -> None:
        for status in statuses:
            held = self._held.get(status.uid)
            if held is None or held.binding != status.binding:
                continue
            held.said = status
            if status.phase is Phase.STOPPED:  # the host forgets it; so does the count, and then there is room
                del self._held[status.uid]
                self._charge(held.kind, -1)

    def _restarted(self, one: Instance) -> HostStatus:
        return self._status(one, Phase.PENDING, "NodeRestarted", "the node's process was started again")

    def _status(self, one: Instance, phase: Phase, reason: str, message: str) -> HostStatus:
        record = one.record
        restarts = 0 if one.status is None else one.status.restarts
        now_ms = self._clock.wall_ms()
        return HostStatus(
            one.namespace, one.name, record.uid, record.binding, phase, False, "", restarts, now_ms, reason, message
        )


def _was_started(one: Instance) -> bool:
    """Whether a worker has had it under its present binding: only then has its host written a status, but for these."""
    status = one.status
    if status is None or status.phase is Phase.REJECTED:
        return False
    return status.reason not in (TEMPLATE_UNREADABLE, RUNTIME_NOT_FOUND)
