"""The agent host of a node: turns assignments into agents that run in worker processes.

Level-triggered: `assign` and `withdraw` say what shall be, in any order and as often as you like; the host starts,
restarts and stops until it is so, and tells every change through its callbacks. Decisions are those of
`choregos.agent.supervision`; here they are carried out, in batches: whatever one turn of the event loop brings is
sent to workers and reported once, at its end.

Invariants: a word from a worker counts only while the agent's life says it is in that worker; memory per agent is
one `Life` and a few dictionary entries, no task and no timer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Self

import msgspec

from choregos.agent import supervision
from choregos.agent.alarms import Alarms, Timer
from choregos.agent.commands.book import CommandBook, Place
from choregos.agent.contract import Assignment, HostEvent, HostSettings, HostStatus
from choregos.agent.logs import LogBook
from choregos.agent.pool import Pool, Worker
from choregos.agent.process import Ending, WorkerState
from choregos.agent.supervision import (
    Assigned,
    Failed,
    Forget,
    Life,
    Lodging,
    Moment,
    Placed,
    ReadyChanged,
    Report,
    StartEnded,
    StopEnded,
    WakeAt,
    Withdrawn,
    Woken,
    WorkerLost,
)
from choregos.agent.usage import UsageBook
from choregos.foundation.clock import Clock
from choregos.foundation.errors import ChoregosError
from choregos.foundation.ids import IdSource
from choregos.foundation.tasks import Tasks, logged
from choregos.foundation.terminal import printable
from choregos.resources.events import cause_of, for_people
from choregos.wire import worker as wire
from choregos.wire.commands import CommandReply, CommandRequest
from choregos.wire.instances import NOT_READY, Phase
from choregos.wire.node import LogReply, LogRequest, UsageReply, UsageRequest
from choregos.wire.worker import CallStats, Resolve, Resolved

__all__ = ["AgentHost", "Assignment", "HostEvent", "HostSettings", "HostStatus"]

log = logging.getLogger(__name__)

_STALE_CODE = "StaleCode"
_INTERRUPTED = "Blocked"


class AgentHost:
    """Owner of a node's workers; an async context manager: leaving it drains and ends every worker, silently.

    Args:
        resolve: answers a worker's question where agents are: (namespace, question) -> answer with its request number.
        on_statuses: called synchronously, with at most one status per agent and loop turn.
        on_event: called synchronously; what befalls many agents of a template in one turn is one event.
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
    ) -> None:
        self._settings = settings
        self._resolve = resolve
        self._on_statuses = on_statuses
        self._on_event = on_event
        self._on_stats = on_stats
        self._clock = clock
        self._tasks = Tasks(on_failure=logged)
        self._logs = LogBook(settings.log_bytes_per_agent, settings.log_bytes)
        self._pool = Pool(settings, self, clock, ids)
        self._usage = UsageBook(lambda: self._pool, clock)
        self._commands = CommandBook(self._place_of, clock, ids)
        self._lives: dict[str, Life] = {}
        self._closing = False
        # What this turn of the loop has brought, carried out by `_flush`.
        self._flushing = False
        self._wanting: dict[str, Lodging] = {}
        self._stopping: dict[tuple[str, float], list[str]] = {}
        self._changed: dict[str, HostStatus] = {}
        self._events: dict[tuple[str, ...], tuple[HostEvent, int]] = {}  # what happened, and to how many beside
        self._alarms = Alarms(clock, _call_later, self._wake)

    async def __aenter__(self) -> Self:
        self._pool.open()
        self._tasks.start(self._usage.sample(), "samples of usage")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._alarms.close()
        try:
            await self._commands.close()
            await self._pool.close(self._settings.drain_s)
        finally:
            await self._tasks.close()

    def assign(self, assignments: Sequence[Assignment]) -> None:
        """These agents shall run; those that do already are left alone."""
        moment = self._moment()
        for assignment in assignments:
            life = self._lives.get(assignment.uid)
            if life is None:
                life = self._lives[assignment.uid] = Life(assignment, moment.now_ms)
            self._step(life, Assigned(assignment), moment)

    def withdraw(self, uids: Iterable[str], grace_s: float) -> None:
        """These agents shall end: each drains for up to `grace_s` seconds. An unknown uid is passed over.

        Those that are ending already have so long at most from now.
        """
        moment = self._moment()
        event = Withdrawn(grace_s)
        for uid in uids:
            life = self._lives.get(uid)
            if life is not None:
                self._step(life, event, moment)

    def invalidate(self, hosts: Sequence[str]) -> None:
        """Workers that are gone, here or on other nodes: callers here drop their routes to them."""
        message = wire.Invalidate(tuple(hosts))
        for worker in self._pool:
            if worker.process.state is WorkerState.READY:  # one that is not has no routes yet, and nothing to take this
                worker.process.send(message)

    async def logs(self, request: LogRequest) -> LogReply:
        """Answers from memory; waits up to `request.wait_s` for a line beyond `request.after` if there is none yet."""
        return await self._logs.follow(request)

    async def usage(self, request: UsageRequest) -> UsageReply:
        """Measures; a first question takes about a second where agents share a worker."""
        return await self._usage.answer(request, self._worker_of)

    async def command(self, request: CommandRequest) -> CommandReply:
        """Starts, feeds, reads or ends a command beside an agent. Whether it may be run is the asker's to know."""
        return await self._commands.answer(request)

    def _place_of(self, uid: str) -> Place | None:
        life = self._lives.get(uid)
        if life is None:
            return None
        assigned, worker = life.assignment, self._worker_of(uid)
        label, environment = f"{assigned.namespace}/{assigned.name}", dict(assigned.template.env)
        return Place(label, environment, worker.host, worker.process.pid) if worker else Place(label, environment)

    def _worker_of(self, uid: str) -> Worker | None:
        life = self._lives.get(uid)
        return self._pool.get(life.host) if life is not None and life.host else None

    # What the pool tells.

    def block_timeout_s(self, uid: str) -> float:
        life = self._lives.get(uid)
        return life.assignment.template.block_timeout_s if life is not None else 0.0

    def on_output(self, worker: Worker, line: str) -> None:
        self._logs.append(worker.host, self._clock.wall_ms(), "INFO", line)

    def on_messages(self, worker: Worker, messages: Sequence[wire.ToNode]) -> None:
        moment = self._moment()
        for message in messages:
            self._hear(worker, message, moment)

    def on_ended(self, worker: Worker, ending: Ending) -> None:
        if self._closing:
            return
        moment = self._moment()
        self.invalidate((worker.host,))
        residents = tuple(worker.residents)
        worker.residents.clear()
        if not ending.wanted:
            reason = "WorkerLost" if ending.greeted else "WorkerFailed"
            message = f"worker {worker.host} with {len(residents)} agents: {ending.message}"
            if (culprit := self._lives.get(ending.culprit)) is not None:
                message += f"; blamed is {culprit.assignment.namespace}/{culprit.assignment.name}"
            message = f"{message}; {ending.details}" if ending.details else message
            self._announce(HostEvent("Warning", reason, message, worker.namespace))
            self._logs.append(worker.host, moment.now_ms, "ERROR", message)
        summary = f"worker {worker.host} ended: {ending.message}"
        for uid in residents:
            blame = ("Blocked" if ending.condemned else "Crashed") if uid == ending.culprit else ""
            innocent = ending.wanted or (bool(ending.culprit) and not blame)
            # What it said last is told to the one it is about, not to all that were in it.
            why = _told(f"{summary}\n{ending.details}") if blame and ending.details else summary
            self._tell(worker, uid, WorkerLost(why, blame=blame, innocent=innocent), moment)

    def _hear(self, worker: Worker, message: wire.ToNode, moment: Moment) -> None:
        """Takes a worker's word. Agents' code runs there, so what it says is cut to what is sensible."""
        match message:
            case wire.Started():
                for outcome in message.outcomes:
                    self._start_ended(worker, outcome, moment)
            case wire.Stopped():
                for uid in message.uids:
                    self._stop_ended(worker, uid, moment)
            case wire.Failed():
                worker.release(message.uid)
                self._tell(worker, message.uid, Failed(_word(message.reason), _told(message.message)), moment)
            case wire.Blocked():
                worker.release(message.uid)
                text = f"kept the event loop for {message.seconds:.1f} s and was interrupted\n{message.stack}"
                self._tell(worker, message.uid, Failed(_INTERRUPTED, _told(text)), moment)
            case wire.Clinging():
                self._condemn(worker, message)
            case wire.Readiness():
                self._tell(worker, message.uid, ReadyChanged(message.ready, _told(message.message)), moment)
            case wire.Resolve():
                self._ask(worker, message)
            case wire.Stats():
                self._on_stats(worker.namespace, message.agents)
            case wire.Handling():
                worker.handled(message)
            case wire.Logs():
                self._keep(worker, message.lines)

    def _start_ended(self, worker: Worker, outcome: wire.Outcome, moment: Moment) -> None:
        worker.start_ended(outcome.uid)
        if outcome.reason:
            worker.release(outcome.uid)
        if outcome.reason == _STALE_CODE:
            worker.retire()
            self._tell(worker, outcome.uid, WorkerLost(_told(outcome.message), innocent=True), moment)
            return
        capabilities = tuple(_word(capability) for capability in outcome.capabilities[:_CAPABILITIES_MAX])
        event = StartEnded(_word(outcome.reason), _told(outcome.message), capabilities, outcome.ready)
        self._tell(worker, outcome.uid, event, moment)

    def _stop_ended(self, worker: Worker, uid: str, moment: Moment) -> None:
        life = self._lives.get(uid)
        if life is not None and life.host == worker.host and life.phase is not Phase.STOPPING:
            return  # it had ended before the stop came, and is started here again: the answer is not about that
        worker.release(uid)
        self._tell(worker, uid, StopEnded(), moment)

    def _condemn(self, worker: Worker, clinging: wire.Clinging) -> None:
        """Nothing else ends that agent's code; until then it has not ended for us either."""
        if not self._closing:  # in which it ends anyway, and its other agents have their grace
            worker.process.condemn(_told(clinging.message), clinging.uid)

    def _keep(self, worker: Worker, lines: Iterable[wire.LogLine]) -> None:
        for line in lines:
            self._logs.append(self._whose(worker, line.uid), line.wall_ms, _word(line.level), line.message)

    def _whose(self, worker: Worker, uid: str) -> str:
        """The owner of a line of log: no worker speaks for an agent of another namespace."""
        life = self._lives.get(uid)
        foreign = life is not None and life.assignment.namespace != worker.namespace
        return worker.host if foreign or not uid or len(uid) > _WORD_LENGTH_MAX else uid

    def _ask(self, worker: Worker, question: Resolve) -> None:
        if worker.questions >= _QUESTIONS_MAX:
            message = f"{_QUESTIONS_MAX} questions of worker {worker.host} wait for an answer already"
            worker.process.send(Resolved(question.request, (), message=message, ttl_s=0.0))
            return
        worker.questions += 1
        self._tasks.start(self._answer(worker, question), "resolve")

    def _tell(self, worker: Worker, uid: str, event: supervision.Event, moment: Moment) -> None:
        life = self._lives.get(uid)
        if life is not None and life.host == worker.host:
            self._step(life, event, moment)

    async def _answer(self, worker: Worker, question: Resolve) -> None:
        try:
            answer = await self._resolve(worker.namespace, question)
        except ChoregosError as error:
            answer = Resolved(question.request, (), message=str(error), ttl_s=0.0)
        finally:
            worker.questions -= 1
        worker.process.send(answer)

    # Carrying out.

    def _moment(self) -> Moment:
        return Moment(self._clock.monotonic(), self._clock.wall_ms())

    def _wake(self, uids: Sequence[str]) -> None:
        moment = self._moment()
        for uid in uids:
            life = self._lives.get(uid)
            if life is not None:
                self._step(life, Woken(), moment)

    def _step(self, life: Life, event: supervision.Event, moment: Moment) -> None:
        uid = life.assignment.uid
        if isinstance(event, StartEnded | Failed | WorkerLost):
            moment = Moment(moment.now_s, moment.now_ms, random.random())
        for instruction in supervision.step(life, event, moment, self._settings.restart):
            match instruction:
                case supervision.Start():
                    self._wanting[uid] = instruction.lodging
                case supervision.Stop():
                    self._stopping.setdefault((instruction.host, instruction.grace_s), []).append(uid)
                case Report():
                    self._report(life)
                case WakeAt():
                    self._alarms.set(uid, instruction.at_s)
                case Forget():
                    self._lives.pop(uid, None)
                    self._wanting.pop(uid, None)
                    self._alarms.drop(uid)
        self._flush_soon()

    def _report(self, life: Life) -> None:
        status = life.status()
        self._changed[status.uid] = status
        if status.reason in _WORTH_AN_EVENT and status.phase is not Phase.STARTING:
            event = HostEvent("Warning", status.reason, status.message, status.namespace, status.name, status.uid)
            self._announce(event, life.assignment.template.digest)

    def _announce(self, event: HostEvent, template: str = "") -> None:
        """Many agents of one template that fail alike in one turn make one event."""
        key = (event.namespace, event.reason, template, cause_of(event.message))
        first, others = self._events.get(key, (event, -1))
        self._events[key] = first, others + 1
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing and not self._closing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._closing:
            return
        for part in (self._place, self._stop, self._tell_changes):
            _attempt(part)

    def _tell_changes(self) -> None:
        changed, self._changed = self._changed, {}
        events, self._events = self._events, {}
        if changed:
            _attempt(self._on_statuses, tuple(changed.values()))
        for event, others in events.values():
            _attempt(self._on_event, _with_others(event, others))

    def _place(self) -> None:
        wanting, self._wanting = self._wanting, {}
        moment = self._moment()
        touched: dict[str, Worker] = {}
        for uid, lodging in wanting.items():
            life = self._lives[uid]
            assigned = life.assignment
            template = assigned.template
            worker = self._pool.choose(assigned.namespace, template, dedicated=lodging is Lodging.DEDICATED)
            self._logs.begin(uid)
            worker.start(template, wire.StartAgent(uid, assigned.name, template.digest))
            touched[worker.host] = worker
            self._step(life, Placed(worker.host), moment)
        for worker in touched.values():
            _attempt(worker.flush)

    def _stop(self) -> None:
        stopping, self._stopping = self._stopping, {}
        for (host, grace_s), uids in stopping.items():
            worker = self._pool.get(host)
            if worker is not None:
                _attempt(self._stop_in, worker, uids, grace_s)

    def _stop_in(self, worker: Worker, uids: list[str], grace_s: float) -> None:
        moment = self._moment()
        for uid in worker.stop(uids, grace_s):
            worker.release(uid)
            self._tell(worker, uid, StopEnded(), moment)


MESSAGE_LENGTH_MAX = 4096
"""Of a status, in characters: there is one per agent, and a traceback's ends tell enough."""

_WORD_LENGTH_MAX = 253
_CAPABILITIES_MAX = 256
_QUESTIONS_MAX = 1024


def _told(message: str) -> str:
    return for_people(message, MESSAGE_LENGTH_MAX)


def _word(word: str) -> str:
    return printable(word[:_WORD_LENGTH_MAX])


def _call_later(delay_s: float, function: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, function)


def _attempt(function: Callable[..., object], *arguments: object) -> None:
    """What goes wrong for one worker or one listener must not hold up the others."""
    try:
        function(*arguments)
    except Exception:
        log.exception("%s failed", getattr(function, "__qualname__", function))


_WORTH_AN_EVENT = frozenset(
    {
        wire.RUNTIME_NOT_FOUND,
        "ImportFailed",
        "StartFailed",
        "StartTimeout",
        "ProbeFailed",
        "Crashed",
        "Blocked",
        NOT_READY,
    }
)


def _with_others(event: HostEvent, others: int) -> HostEvent:
    if not others:
        return event
    return msgspec.structs.replace(event, message=f"{event.message}\n(and {others} more agents of its template)")
