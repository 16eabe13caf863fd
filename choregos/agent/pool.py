"""The worker processes of a node: which exist, and which of them takes an agent.

A worker serves one namespace and one import path, so that two templates whose directories hold modules of the same
name never meet in one interpreter. Shared workers are spawned as agents come, up to `HostSettings.workers` for each
namespace and path; the least loaded is chosen. A dedicated worker is spawned for its agent and ends with it. A
retired worker (its modules are older than their files) takes no new agent and ends with its last one.

Only a few workers are being spawned at once, however many are wanted; the others wait for their turn, and the turns go
round the namespaces.

Invariants: every worker that was chosen ends with `on_ended`, also one that never came to be; an agent is a resident
of at most one living worker. The pool knows nothing of agents' lives: who was in a worker that is gone is for its
listener to place again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from choregos.agent.contract import HostSettings
from choregos.agent.process import LEAVING_MARGIN_S, Ending, Patience, WorkerProcess, WorkerState
from choregos.agent.turns import FairTurns
from choregos.foundation.clock import Clock
from choregos.foundation.ids import IdSource
from choregos.foundation.tasks import Tasks
from choregos.foundation.timeout import timeout
from choregos.messaging import neighbourhood
from choregos.wire.subjects import call_subject
from choregos.wire.worker import (
    FRAME_BYTES_MAX,
    AskHandling,
    Configure,
    Handling,
    Outcome,
    Start,
    StartAgent,
    Started,
    Stop,
    Template,
    ToNode,
)

_FRAME_AGENTS_MAX = 500
_FRAME_TEMPLATES_BYTES_MAX = FRAME_BYTES_MAX // 2
_SPAWNING_PER_CORE_MAX = 2
_START_MARGIN_S = 10.0
_IDLE_TICKS_MAX = 60
_HOST_SUFFIX_LENGTH = 10
_CLOSE_MARGIN_S = LEAVING_MARGIN_S + 1.0
_TAKES_AGENTS = (WorkerState.SPAWNING, WorkerState.READY)

log = logging.getLogger(__name__)

Key = tuple[str, tuple[str, ...]]
"""Namespace and import path."""


class PoolListener(Protocol):
    """What the pool's owner hears, synchronously in the event loop."""

    def on_messages(self, worker: Worker, messages: Sequence[ToNode]) -> None: ...

    def on_output(self, worker: Worker, line: str) -> None: ...

    def on_ended(self, worker: Worker, ending: Ending) -> None:
        """The worker is gone; its `residents` were in it."""

    def block_timeout_s(self, uid: str) -> float:
        """How long one step of this agent may take."""


class Worker:
    """A worker process and who lives in it; also what its process tells the pool.

    Attributes:
        questions: of its `Resolve` frames, those that are not yet answered; kept by the listener.
    """

    def __init__(self, configure: Configure, key: Key, patience: Patience, listener: PoolListener) -> None:
        self.key = key
        self.process = WorkerProcess(configure, patience, self)
        self.retired = False
        self.residents: set[str] = set()
        self.idle_ticks = 0
        self.questions = 0
        self._listener = listener
        self._waiting: dict[str, tuple[Template, StartAgent]] = {}  # by uid, until they are sent
        self._starting: dict[str, float] = {}  # uid → its start timeout, from when it is sent to its outcome
        self._start_silence_s = 0.0  # how long no start has ended here though some are under way
        self._handling: dict[int, asyncio.Future[Handling]] = {}  # question → who waits for its answer
        self._handling_asked = 0

    @property
    def host(self) -> str:
        return self.process.host

    @property
    def namespace(self) -> str:
        return self.key[0]

    @property
    def dedicated(self) -> bool:
        return self.process.configure.dedicated

    @property
    def shareable(self) -> bool:
        """Whether it may get another agent."""
        return not (self.retired or self.dedicated) and self.process.state in _TAKES_AGENTS

    def start(self, template: Template, agent: StartAgent) -> None:
        """Makes the agent a resident; it is sent with the next `flush`."""
        self.residents.add(agent.uid)
        self._waiting[agent.uid] = (template, agent)

    def flush(self) -> None:
        """Sends `Start` frames for those who wait, as far as the worker takes frames."""
        while self._waiting and self.process.takes_frames:
            templates, agents = self._next_frame()
            if agents:
                self.process.send(Start(templates, agents))

    def _next_frame(self) -> tuple[tuple[Template, ...], tuple[StartAgent, ...]]:
        """As many of those who wait as go into one frame; who goes into none is answered for the worker."""
        templates: dict[str, Template] = {}
        agents: list[StartAgent] = []
        size = 0
        while self._waiting and len(agents) < _FRAME_AGENTS_MAX:
            uid, (template, agent) = next(iter(self._waiting.items()))
            if template.digest not in templates:
                weight = len(msgspec.msgpack.encode(template))
                if weight > _FRAME_TEMPLATES_BYTES_MAX:
                    del self._waiting[uid]
                    self._refuse(uid, f"its template has {weight} bytes, {_FRAME_TEMPLATES_BYTES_MAX} are allowed")
                    continue
                if size + weight > _FRAME_TEMPLATES_BYTES_MAX:
                    break
                size += weight
                templates[template.digest] = template
            del self._waiting[uid]
            agents.append(agent)
            self._starting[uid] = template.start_timeout_s
        return tuple(templates.values()), tuple(agents)

    def _refuse(self, uid: str, message: str) -> None:
        self._listener.on_messages(self, (Started((Outcome(uid, "StartFailed", message),)),))

    def start_ended(self, uid: str) -> None:
        """Nothing is to be heard any more of the agent's start."""
        if self._starting.pop(uid, None) is not None:
            self._start_silence_s = 0.0

    def on_tick(self, _process: WorkerProcess, period_s: float) -> None:
        """Gives up the starts under way if for too long none has ended.

        A worker runs few `on_start` at once, so a start may wait for its turn, but not without another one ending:
        each takes at most its timeout for the import and once more for `on_start`. Where none does, the worker has
        lost its way. It is told to stop them, and gets no new agents.
        """
        if not self._starting:
            self._start_silence_s = 0.0
            return
        self._start_silence_s += period_s
        if self._start_silence_s <= _START_MARGIN_S + 2 * max(self._starting.values()):
            return
        overdue, self._starting = tuple(self._starting), {}
        message = f"the worker did not say within {self._start_silence_s:.0f} s how the start went"
        self.process.send(Stop(overdue, 0.0))
        self.retired = True
        self._listener.on_messages(self, (Started(tuple(Outcome(uid, "StartTimeout", message) for uid in overdue)),))

    async def handling(self, timeout_s: float) -> Mapping[str, float]:
        """How long its agents have handled calls lately, in seconds by uid; empty if it does not say in time."""
        if not self.process.takes_frames:
            return {}
        self._handling_asked += 1
        number = self._handling_asked
        waiting = self._handling[number] = asyncio.get_running_loop().create_future()
        self.process.send(AskHandling(number))
        try:
            async with timeout(timeout_s):
                return dict((await waiting).seconds)
        except TimeoutError:
            return {}
        finally:
            del self._handling[number]

    def handled(self, answer: Handling) -> None:
        """The worker has said how long."""
        waiting = self._handling.get(answer.request)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def stop(self, uids: Sequence[str], grace_s: float) -> list[str]:
        """Sends `Stop`; returns those that had not been sent yet and so are gone already."""
        unsent = [uid for uid in uids if self._waiting.pop(uid, None) is not None]
        sent = tuple(uid for uid in uids if uid not in set(unsent)) if unsent else tuple(uids)
        if sent:
            self.process.send(Stop(sent, grace_s))
        return unsent

    def release(self, uid: str) -> None:
        """The agent is no longer in the worker."""
        self.residents.discard(uid)
        self.start_ended(uid)
        if not self.residents and (self.dedicated or self.retired):
            self.process.shutdown(0.0)

    def retire(self) -> None:
        self.retired = True
        if not self.residents:
            self.process.shutdown(0.0)

    def on_ready(self, _process: WorkerProcess) -> None:
        self.flush()

    def on_messages(self, _process: WorkerProcess, messages: Sequence[ToNode]) -> None:
        self._listener.on_messages(self, messages)

    def on_output(self, _process: WorkerProcess, line: str) -> None:
        self._listener.on_output(self, line)


class Pool:
    """All workers of a node. Spawned in the background; `close` ends them all."""

    def __init__(self, settings: HostSettings, listener: PoolListener, clock: Clock, ids: IdSource) -> None:
        self._settings = settings
        self._listener = listener
        self._clock = clock
        self._ids = ids
        self._tasks = Tasks()
        self._spawning = FairTurns(_SPAWNING_PER_CORE_MAX * (os.cpu_count() or 1))
        self._runs: set[asyncio.Task[None]] = set()
        self._workers: dict[str, Worker] = {}  # by host
        self._sharing: dict[Key, list[Worker]] = {}
        self._sockets: Path | None = None
        self._patience = Patience(
            block_timeout_s=listener.block_timeout_s,
            block_grace_s=settings.block_grace_s,
            silence_s_max=settings.silence_s_max,
            hello_s_max=settings.hello_timeout_s,
        )

    def open(self) -> None:
        sockets = self._settings.sockets
        if sockets is not None and neighbourhood.SUPPORTED:
            try:
                neighbourhood.prepare(sockets)
                self._sockets = sockets
            except OSError as error:
                log.warning("calls between workers go over the bus: %s", error)
        self._tasks.start(self._keep_alive(), "worker signs of life")

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[Worker]:
        return iter(tuple(self._workers.values()))

    def get(self, host: str) -> Worker | None:
        return self._workers.get(host)

    def choose(self, namespace: str, template: Template, *, dedicated: bool) -> Worker:
        """The worker for one more agent; spawns one if there shall be more."""
        key: Key = (namespace, template.paths)
        if dedicated:
            return self._spawn(key, dedicated=True)
        candidates = [worker for worker in self._sharing.get(key, ()) if worker.shareable]
        if candidates:
            least = min(candidates, key=lambda worker: len(worker.residents))
            if not least.residents or len(candidates) >= self._settings.workers:
                return least
        return self._spawn(key, dedicated=False)

    async def close(self, grace_s: float) -> None:
        """Lets every worker drain for `grace_s` seconds, then kills what is left."""
        for worker in self:
            worker.process.shutdown(grace_s)
        if self._runs:
            await asyncio.wait(tuple(self._runs), timeout=grace_s + _CLOSE_MARGIN_S)
        await self._tasks.close()
        if self._sockets is not None:
            neighbourhood.discard(self._sockets)

    def _spawn(self, key: Key, *, dedicated: bool) -> Worker:
        settings = self._settings
        configure = Configure(
            host=f"{settings.node}-{self._ids.suffix(_HOST_SUFFIX_LENGTH)}",
            node=settings.node,
            region=settings.region,
            namespace=key[0],
            servers=settings.servers,
            user=settings.user,
            password=settings.password,
            max_in_flight=settings.max_in_flight,
            dedicated=dedicated,
            sockets=str(self._sockets or ""),
        )
        worker = Worker(configure, key, self._patience, self._listener)
        self._workers[worker.host] = worker
        if not dedicated:
            self._sharing.setdefault(key, []).append(worker)
        run = self._tasks.start(self._run(worker), f"worker {worker.host}")
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        return worker

    async def _run(self, worker: Worker) -> None:
        try:
            ending = await worker.process.run(self._spawning)
        except Exception as error:  # a defect; but its agents must not wait for ever
            log.exception("worker %s", worker.host)
            ending = Ending(f"its node failed: {error}", greeted=False)
        del self._workers[worker.host]
        if self._sockets is not None:
            # One that was killed has left it there.
            neighbourhood.forget(self._sockets, call_subject(self._settings.region, worker.namespace, worker.host))
        sharing = self._sharing.get(worker.key, [])
        if worker in sharing:
            sharing.remove(worker)
            if not sharing:
                del self._sharing[worker.key]
        self._listener.on_ended(worker, ending)

    async def _keep_alive(self) -> None:
        period_s = self._settings.ping_period_s
        while True:
            await self._clock.sleep(period_s)
            for worker in self:
                worker.process.tick(period_s)
                worker.idle_ticks = 0 if worker.residents else worker.idle_ticks + 1
                if worker.idle_ticks > _IDLE_TICKS_MAX:
                    worker.retire()
