"""The life of one agent as a pure state machine: an event and the time in, instructions out.

`step` is the only thing that changes a `Life`. It sends nothing, reads no clock and rolls no die; the host carries
the instructions out. `docs/lifecycle-agent.md` draws the machine. Invariants:

- a life wants at most one worker at a time: between `Start` and the end of that start there is no second `Start`;
- every change of what `HostStatus` says yields `Report`, and nothing else does;
- a life that waits for a time has a `WakeAt` under way, whenever `Woken` comes;
- after `Forget` no event of this life is accepted.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from choregos.agent.contract import Assignment, HostStatus
from choregos.foundation.backoff import Backoff
from choregos.wire.instances import NOT_READY, Phase
from choregos.wire.worker import RUNTIME_NOT_FOUND


class Lodging(StrEnum):
    """What kind of worker an agent may live in."""

    SHARED = "shared"  # with other agents of its namespace
    DEDICATED = "dedicated"  # alone: it asked for that, or it has brought a worker down before


# Events.


class Assigned(msgspec.Struct, frozen=True, gc=False):
    """It shall run under this assignment."""

    assignment: Assignment


class Withdrawn(msgspec.Struct, frozen=True, gc=False):
    """It shall end, within `grace_s` seconds, or sooner if that was said before."""

    grace_s: float


class Placed(msgspec.Struct, frozen=True, gc=False):
    """A `Start` was sent to this worker."""

    host: str


class StartEnded(msgspec.Struct, frozen=True, gc=False):
    """The worker says how the start went: `reason` is empty on success."""

    reason: str = ""
    message: str = ""
    capabilities: tuple[str, ...] = ()
    ready: bool = True


class Failed(msgspec.Struct, frozen=True, gc=False):
    """It started or ran and ended by itself; its worker has let go of it."""

    reason: str
    message: str


class ReadyChanged(msgspec.Struct, frozen=True, gc=False):
    ready: bool
    message: str = ""


class StopEnded(msgspec.Struct, frozen=True, gc=False):
    """The worker has stopped it on request, and let go of it."""


class WorkerLost(msgspec.Struct, frozen=True, gc=False):
    """Its worker is gone.

    Attributes:
        message: what is known of the end of the process.
        blame: this agent brought it down, by this: `Blocked` (it silenced the worker, or clung to it, which had to be
            killed) or `Crashed` (the process fell in its code); empty if it did not, or nobody knows.
        innocent: it is known that this agent did not; it is started again at once, unless this happens often.
    """

    message: str
    blame: str = ""
    innocent: bool = False


class Woken(msgspec.Struct, frozen=True, gc=False):
    """The time asked for with `WakeAt` has come."""


Event = Assigned | Withdrawn | Placed | StartEnded | Failed | ReadyChanged | StopEnded | WorkerLost | Woken


# Instructions.


class Start(msgspec.Struct, frozen=True, gc=False):
    """Put it into a worker of this kind, then say `Placed`."""

    lodging: Lodging


class Stop(msgspec.Struct, frozen=True, gc=False):
    """Have its worker stop it; answered by `StopEnded` or `WorkerLost`, once however often it is said."""

    host: str
    grace_s: float


class Report(msgspec.Struct, frozen=True, gc=False):
    """Its status has changed; read it with `status`."""


class WakeAt(msgspec.Struct, frozen=True, gc=False):
    """Say `Woken` at this monotonic time; replaces an earlier wish."""

    at_s: float


class Forget(msgspec.Struct, frozen=True, gc=False):
    """Its life here is over."""


Instruction = Start | Stop | Report | WakeAt | Forget

REPORT = Report()
FORGET = Forget()


class Life:
    """What the host remembers of one agent. Changed by `step` only."""

    __slots__ = (
        "_phase",
        "assignment",
        "capabilities",
        "failures",
        "host",
        "innocent_s",
        "innocents",
        "message",
        "quarantined",
        "ready",
        "reason",
        "restarting",
        "restarts",
        "since_ms",
        "started_s",
        "successor",
        "wake_s",
        "withdrawn",
    )

    def __init__(self, assignment: Assignment, now_ms: int) -> None:
        self.assignment = assignment
        # Phase as a bare reference: an enum member is shared, so ten thousand lives cost nothing for it.
        self._phase = Phase.PENDING
        self.ready = False
        self.host = ""  # the worker that has it, empty unless STARTING, RUNNING or STOPPING
        self.restarts = assignment.restarts
        self.restarting = assignment.started  # its next start is a restart
        self.failures = 0  # in a row, without `reset_after_s` of health between them
        self.innocents = 0  # workers lost through no fault of its own within `INNOCENT_WINDOW_S`
        self.innocent_s = 0.0  # monotonic time of the first of them
        self.started_s = 0.0  # monotonic time of the last successful start
        self.wake_s = 0.0  # monotonic time at which BACKOFF ends, 0 in every other phase
        self.quarantined = False  # it has brought a worker down, so it no longer has neighbours
        self.withdrawn = False  # ends for good once its worker has let go
        self.successor: Assignment | None = None  # starts once its worker has let go
        self.since_ms = now_ms
        self.reason = ""
        self.message = ""
        self.capabilities: tuple[str, ...] = ()

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def lodging(self) -> Lodging:
        return Lodging.DEDICATED if self.quarantined or self.assignment.dedicated else Lodging.SHARED

    def status(self) -> HostStatus:
        assigned = self.assignment
        return HostStatus(
            assigned.namespace,
            assigned.name,
            assigned.uid,
            assigned.binding,
            self._phase,
            self.ready,
            self.host,
            self.restarts,
            self.since_ms,
            self.reason,
            self.message,
            self.capabilities,
        )

    def enter(self, phase: Phase, now_ms: int, *, ready: bool = False, reason: str = "", message: str = "") -> None:
        """Changes the phase; used by `step`."""
        self._phase = phase
        self.ready = ready
        self.since_ms = now_ms
        self.reason = reason
        self.message = message
        if phase in _HOMELESS:
            self.host = ""


INNOCENT_WINDOW_S = 60.0
INNOCENT_AT_ONCE_MAX = 2
INNOCENT_DELAY_S_MAX = 10.0

_IN_A_WORKER = (Phase.STARTING, Phase.RUNNING)
_HOMELESS = frozenset({Phase.PENDING, Phase.BACKOFF, Phase.STOPPED})


class Moment(msgspec.Struct, frozen=True, gc=False):
    """When an event is handled.

    Attributes:
        now_s: monotonic seconds; now_ms: wall clock, for people.
        roll: uniform in [0, 1), for the jitter of a back-off.
    """

    now_s: float
    now_ms: int
    roll: float = 1.0


def step(life: Life, event: Event, moment: Moment, backoff: Backoff) -> tuple[Instruction, ...]:
    """Advances `life` by one event. An event that is out of date in its phase changes nothing."""
    match event:
        case Assigned():
            return _assigned(life, event.assignment, moment)
        case Placed():
            # What it failed of stays in sight until it has started, which may take long.
            failed = life.phase is Phase.BACKOFF or life.reason == RUNTIME_NOT_FOUND
            reason, message = (life.reason, life.message) if failed else ("", "")
            life.enter(Phase.STARTING, moment.now_ms, reason=reason, message=message)
            life.host = event.host
            life.restarts += life.restarting
            life.restarting = False
            return (REPORT,)
        case StartEnded():
            return _start_ended(life, event, moment, backoff)
        case ReadyChanged():
            return _ready_changed(life, event, moment)
        case Failed():
            if life.phase is Phase.STOPPING:
                return _let_go(life, moment)
            if life.phase not in _IN_A_WORKER:
                return ()
            return _back_off(life, event.reason, event.message, moment, backoff)
        case WorkerLost():
            return _worker_lost(life, event, moment, backoff)
        case Withdrawn():
            return _withdrawn(life, event, moment)
        case StopEnded():
            return _let_go(life, moment) if life.phase is Phase.STOPPING else ()
        case Woken():
            return _woken(life, moment)


def _assigned(life: Life, assignment: Assignment, moment: Moment) -> tuple[Instruction, ...]:
    known = life.successor or life.assignment
    same = known.binding == assignment.binding and known.template.digest == assignment.template.digest
    if same and not life.withdrawn:
        if life.phase is Phase.PENDING and not life.reason and not life.host:
            life.reason = "Assigned"
            return (Start(life.lodging),)
        return ()
    life.withdrawn = False
    if life.phase is Phase.STOPPING:
        life.successor = assignment
        return ()
    if life.host:
        life.successor = assignment
        host = life.host
        life.enter(Phase.STOPPING, moment.now_ms, reason="Replaced")
        return (Stop(host, assignment.grace_s), REPORT)
    return _begin(life, assignment, moment)


def _begin(life: Life, assignment: Assignment, moment: Moment) -> tuple[Instruction, ...]:
    """A new binding on a life that no worker holds: a clean slate, but the same code stays in quarantine."""
    if assignment.template.digest != life.assignment.template.digest:
        life.quarantined = False
    life.assignment = assignment
    life.successor = None
    life.failures = 0
    life.wake_s = 0.0
    life.restarts = max(life.restarts, assignment.restarts)
    life.restarting = life.restarting or assignment.started
    life.enter(Phase.PENDING, moment.now_ms, reason="Assigned")
    return (Start(life.lodging), REPORT)


def _start_ended(life: Life, event: StartEnded, moment: Moment, backoff: Backoff) -> tuple[Instruction, ...]:
    if life.phase is Phase.STOPPING:
        # Stop was sent after Start; the worker answers that one too, unless there is nothing left to stop.
        return _let_go(life, moment) if event.reason else ()
    if life.phase is not Phase.STARTING:
        return ()
    if event.reason:
        return _back_off(life, event.reason, event.message, moment, backoff)
    life.started_s = moment.now_s
    life.capabilities = event.capabilities
    life.enter(Phase.RUNNING, moment.now_ms, ready=event.ready, reason="Started")
    return (REPORT,)


def _ready_changed(life: Life, event: ReadyChanged, moment: Moment) -> tuple[Instruction, ...]:
    reason = "Started" if event.ready else NOT_READY
    if life.phase is not Phase.RUNNING or (life.ready, life.reason) == (event.ready, reason):
        return ()
    life.enter(Phase.RUNNING, moment.now_ms, ready=event.ready, reason=reason, message=event.message)
    return (REPORT,)


def _back_off(life: Life, reason: str, message: str, moment: Moment, backoff: Backoff) -> tuple[Instruction, ...]:
    was_healthy = life.phase is Phase.RUNNING and moment.now_s - life.started_s >= backoff.reset_after_s
    life.failures = 1 if was_healthy else life.failures + 1
    if reason == RUNTIME_NOT_FOUND:
        # It never began, so the next is no restart: it stays Pending until somebody provides what it needs.
        life.enter(Phase.PENDING, moment.now_ms, reason=reason, message=message)
    else:
        life.restarting = True
        life.enter(Phase.BACKOFF, moment.now_ms, reason=reason, message=message)
    life.wake_s = moment.now_s + backoff.delay_s(life.failures, moment.roll)
    return (REPORT, WakeAt(life.wake_s))


def _woken(life: Life, moment: Moment) -> tuple[Instruction, ...]:
    if life.wake_s > moment.now_s:
        return (WakeAt(life.wake_s),)  # too early: who says so has given the wish up, and shall have it again
    if not life.wake_s:
        return ()
    life.wake_s = 0.0  # it stays in its phase, wanting a worker, until it is placed
    return (Start(life.lodging),)


def _worker_lost(life: Life, event: WorkerLost, moment: Moment, backoff: Backoff) -> tuple[Instruction, ...]:
    if life.phase is Phase.STOPPING:
        return _let_go(life, moment)
    if not life.host:
        return ()
    if event.innocent:
        return _start_elsewhere(life, event, moment, backoff)
    life.quarantined = life.quarantined or bool(event.blame)
    return _back_off(life, event.blame or "WorkerLost", event.message, moment, backoff)


def _start_elsewhere(life: Life, event: WorkerLost, moment: Moment, backoff: Backoff) -> tuple[Instruction, ...]:
    """At once, unless its workers are lost one after the other: neighbours that crash in turn, or a file that is
    written all the time, would have processes spawned as fast as they can be."""
    if life.innocents == 0 or moment.now_s - life.innocent_s > INNOCENT_WINDOW_S:
        life.innocents, life.innocent_s = 0, moment.now_s
    life.innocents += 1
    life.restarting = True
    if life.innocents <= INNOCENT_AT_ONCE_MAX:
        life.enter(Phase.PENDING, moment.now_ms, reason="WorkerLost", message=event.message)
        return (Start(life.lodging), REPORT)
    life.enter(Phase.BACKOFF, moment.now_ms, reason="WorkerLost", message=event.message)
    delay_s = backoff.delay_s(life.innocents - INNOCENT_AT_ONCE_MAX, moment.roll)
    life.wake_s = moment.now_s + min(delay_s, INNOCENT_DELAY_S_MAX)
    return (REPORT, WakeAt(life.wake_s))


def _withdrawn(life: Life, event: Withdrawn, moment: Moment) -> tuple[Instruction, ...]:
    life.withdrawn = True
    life.successor = None
    if life.phase is Phase.STOPPING:
        return (Stop(life.host, event.grace_s),)  # it may have less time now than when its stop began; never more
    host = life.host
    if not host:
        return _let_go(life, moment)
    life.enter(Phase.STOPPING, moment.now_ms, reason="Withdrawn")
    return (Stop(host, event.grace_s), REPORT)


def _let_go(life: Life, moment: Moment) -> tuple[Instruction, ...]:
    """No worker holds it any more: go on with what was asked meanwhile."""
    if life.successor is not None:
        return _begin(life, life.successor, moment)
    life.wake_s = 0.0
    life.enter(Phase.STOPPED, moment.now_ms, reason="Stopped")
    return (REPORT, FORGET)
