"""The agents of one worker process: starts them, finds them for calls, watches them, stops them.

Invariants: an agent takes calls from when its `on_start` has returned until its stop begins, and only then; each
`Start` of a uid is answered by one outcome, unless it was stopped or blocked before; an agent is said to have ended
once its code has, and never if that clings (then only the end of the process helps, and the node is told so); an agent
that is not being started, stopped or probed has no task and no timer of ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

from choregos.agent.runtimes.python import CannotLoad, NotProvided, PythonCode, PythonRuntime
from choregos.agent.worker.grace import Grace
from choregos.agent.worker.importing import ThreadRun
from choregos.agent.worker.probes import ProbeTimer
from choregos.agent.worker.resident import Lodgings, Resident, State
from choregos.agent.worker.stepping import AgentBlocked, AgentInterrupted, Floor, is_over
from choregos.foundation.tasks import Tasks
from choregos.foundation.timeout import timeout
from choregos.messaging.invocation import Invoker
from choregos.messaging.tracebacks import format_traceback
from choregos.sdk.binding import BoundAgent, bind, run_hook
from choregos.sdk.context import AgentContext, Ask
from choregos.wire.worker import (
    RUNTIME_NOT_FOUND,
    Blocked,
    Clinging,
    Failed,
    Outcome,
    Readiness,
    StartAgent,
    Started,
    Stopped,
    Template,
)

STARTING_MAX = 256
"""`on_start` hooks under way at once in a worker."""

SLICE_S = 0.02
"""Making agents gives way to the event loop after this long."""

FRAME_AGENTS_MAX = 500
ON_STOP_S_MIN = 1.0
INSIST_PERIOD_S = 0.5
INSISTED_MAX = 3
"""An agent whose code has not ended after so many periods, the first of them cut short, clings to its worker. It is
cancelled again one period before. Turns of the loop are counted, so who is held up by a neighbour is not accused."""

TEMPLATES_UNUSED_MAX = 64

log = logging.getLogger("choregos.agents")


class Residents:
    """All agents of the process, which has one namespace.

    Args:
        ask: what agents call others with.
        send: takes frames for the node.
        expect: told the block timeout of every template that comes.
    """

    def __init__(
        self,
        namespace: str,
        *,
        floor: Floor,
        invoker: Invoker,
        ask: Ask,
        send: Callable[[Any], None],
        expect: Callable[[float], None],
    ) -> None:
        self._namespace = namespace
        self._floor = floor
        self._invoker = invoker
        self._ask = ask
        self._send = send
        self._expect = expect
        self._runtime = PythonRuntime()
        self._tasks = Tasks()
        self._templates: dict[str, Lodgings] = {}
        self._templates_max = TEMPLATES_UNUSED_MAX
        self._awaited: dict[str, StartAgent] = {}  # told to start, their class not yet imported
        self._by_uid: dict[str, Resident] = {}
        self._by_name: dict[str, Resident] = {}  # those that take calls
        self._starting = asyncio.Semaphore(STARTING_MAX)
        self._loop = asyncio.get_running_loop()
        self._outcomes: list[Outcome] = []
        self._stopped: list[str] = []
        self._ending: dict[str, tuple[Resident, int]] = {}  # gone, their code not yet; and for how many periods
        self._insisting = False
        self._emptied: asyncio.Event | None = None  # set when the last agent has gone, once somebody waits for it

    def find(self, name: str) -> Resident | None:
        """The agent of this name, if it takes calls."""
        return self._by_name.get(name)

    def __len__(self) -> int:
        return len(self._by_uid)

    # Starting.

    def start(self, templates: Iterable[Template], agents: Sequence[StartAgent]) -> None:
        for template in templates:
            if template.digest not in self._templates:
                settings = MappingProxyType(msgspec.json.decode(template.settings, type=dict[str, Any]))
                self._templates[template.digest] = Lodgings(template, settings)
                self._expect(template.block_timeout_s)
        groups: dict[str, list[StartAgent]] = {}
        for agent in agents:
            self._awaited[agent.uid] = agent
            groups.setdefault(agent.template, []).append(agent)
        for digest, group in groups.items():
            self._tasks.start(self._start_group(self._templates[digest], group), f"start {group[0].name} …")
        if len(self._templates) > self._templates_max:
            self._forget_unused()

    def _forget_unused(self) -> None:
        """Every rollout brings another template; those that no agent has are kept for a while only."""
        used = {resident.shared.template.digest for resident in self._by_uid.values()}
        used.update(agent.template for agent in self._awaited.values())
        unused = [
            digest for digest, shared in self._templates.items() if digest not in used and shared.importing is None
        ]
        for digest in unused[: -TEMPLATES_UNUSED_MAX // 2]:
            del self._templates[digest]
        self._templates_max = len(self._templates) + TEMPLATES_UNUSED_MAX // 2

    async def _start_group(self, shared: Lodgings, agents: Sequence[StartAgent]) -> None:
        refusal = await self._import(shared)
        code = shared.code
        slice_end = self._loop.time() + SLICE_S
        for agent in agents:
            if self._awaited.pop(agent.uid, None) is None:
                continue  # stopped meanwhile
            if refusal is not None or code is None:
                self._conclude(Outcome(agent.uid, *(refusal or ())))
                continue
            resident = Resident(agent.uid, self._namespace, agent.name, shared, self._floor)
            self._by_uid[agent.uid] = resident
            if self._make(resident, code):
                if resident.bound is not None and resident.bound.has_on_start:
                    await self._starting.acquire()
                    starting = self._tasks.start(self._run_on_start(resident), f"on_start {agent.name}")
                    # Not at the end of the coroutine: one that is cancelled before its first step never gets there.
                    starting.add_done_callback(lambda _: self._starting.release())
                    resident.adopt(starting)  # which ends it if it was stopped while its turn had not come
                else:
                    self._started(resident)
            if self._loop.time() > slice_end:
                self._flush()
                await asyncio.sleep(0)
                slice_end = self._loop.time() + SLICE_S
        self._flush()

    async def _import(self, shared: Lodgings) -> tuple[str, str] | None:
        """Has the template's class imported; else why not, as reason and message."""
        template = shared.template
        stale = self._runtime.stale(template)
        if stale:
            return "StaleCode", f"{stale} has changed since this worker imported it"
        if shared.code is not None:
            return None
        run = shared.importing
        if run is None:
            what = template.python or template.entry_point
            run = shared.importing = ThreadRun(lambda: self._runtime.load(template), f"import {what}")
        await asyncio.wait((run.result,), timeout=template.start_timeout_s)
        if not run.result.done():
            # It goes on; the next start waits for the same import.
            return "StartTimeout", f"its import took longer than {template.start_timeout_s:g} s, here:\n{run.stack()}"
        shared.importing = None
        try:
            shared.code = run.result.result()
        except NotProvided as error:
            return RUNTIME_NOT_FOUND, str(error)
        except CannotLoad as error:
            return "ImportFailed", str(error)
        except Exception as error:
            return "ImportFailed", format_traceback(error)
        return None

    def _make(self, resident: Resident, code: PythonCode) -> bool:
        """Runs the author's `__init__`; False if it failed."""
        shared = resident.shared
        context = AgentContext(
            self._namespace, resident.name, resident.uid, self._ask, shared.labels, shared.settings, shared.env
        )
        outer = self._floor.enter(resident)
        try:
            resident.bound = bind(code.agent_class, context)
        except AgentBlocked:
            return False  # the watchdog's own report follows
        except BaseException as error:
            self._start_failed(resident, "StartFailed", format_traceback(error))
            return False
        finally:
            self._floor.leave(outer)
        return True

    async def _run_on_start(self, resident: Resident) -> None:
        timeout_s = resident.shared.template.start_timeout_s
        assert resident.bound is not None
        scope = timeout(timeout_s)
        try:
            async with scope:
                await resident.run(resident.bound.start())
        except AgentInterrupted:
            pass  # the watchdog's own report follows
        except BaseException as error:
            if is_over(error):
                raise
            if scope.expired():
                self._start_failed(resident, "StartTimeout", f"on_start took longer than {timeout_s:g} s")
            else:
                self._start_failed(resident, "StartFailed", resident.explain(error).traceback)
        else:
            if resident.state is State.STARTING:
                self._started(resident)

    def _started(self, resident: Resident) -> None:
        resident.state = State.RUNNING
        self._by_name[resident.name] = resident
        shared = resident.shared
        declared = shared.code.capabilities if shared.code is not None and not shared.template.capabilities else ()
        self._conclude(Outcome(resident.uid, capabilities=declared, ready=shared.template.readiness is None))
        if shared.template.readiness is not None or shared.template.liveness is not None:
            self._probe(resident)

    def _start_failed(self, resident: Resident, reason: str, message: str) -> None:
        if resident.state is State.STARTING:
            self._remove(resident, partial(self._conclude, Outcome(resident.uid, reason, message)))

    def _conclude(self, outcome: Outcome) -> None:
        self._flush_soon()
        self._outcomes.append(outcome)
        if len(self._outcomes) >= FRAME_AGENTS_MAX:
            self._flush()

    def _flush_soon(self) -> None:
        if not self._outcomes and not self._stopped:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._outcomes:
            outcomes, self._outcomes = self._outcomes, []
            self._send(Started(tuple(outcomes)))
        if self._stopped:
            stopped, self._stopped = self._stopped, []
            self._send(Stopped(tuple(stopped)))

    # Probing.

    def _probe(self, resident: Resident) -> None:
        bound, template = resident.bound, resident.shared.template
        assert bound is not None
        agent = bound.agent
        resident.probes = []
        if template.liveness is not None:
            resident.probes.append(
                ProbeTimer(
                    template.liveness,
                    lambda method: resident.run(run_hook(agent, method)),
                    lambda well, why: self._probed_alive(resident, well, why),
                    self._tasks,
                    well=True,
                )
            )
        if template.readiness is not None:
            resident.probes.append(
                ProbeTimer(
                    template.readiness,
                    lambda method: resident.run(run_hook(agent, method)),
                    lambda well, why: self._send(Readiness(resident.uid, well, why and f"readiness probe: {why}")),
                    self._tasks,
                    well=None,  # it is not ready yet; that its probe fails is news all the same
                )
            )
        for probe in resident.probes:
            probe.start()

    def _probed_alive(self, resident: Resident, well: bool, why: str) -> None:
        if not well and resident.state is State.RUNNING:
            self._tasks.start(self._fail(resident, "ProbeFailed", f"liveness probe: {why}"), f"fail {resident.name}")

    async def _fail(self, resident: Resident, reason: str, message: str) -> None:
        await self._wind_up(resident, Grace(0.0), partial(self._send, Failed(resident.uid, reason, message)))

    # Stopping.

    def blocked(self, resident: Resident, seconds: float, stack: str) -> None:
        """The watchdog has interrupted it: it ends without its `on_stop`, for its code cannot be trusted to return."""
        if self._by_uid.get(resident.uid) is not resident:
            return
        self._invoker.interrupt(resident.uid, f"{resident.label} was ended because it blocked its worker")
        self._flush()
        self._remove(resident, partial(self._send, Blocked(resident.uid, seconds, stack)))

    def stop(self, uids: Sequence[str], grace_s: float) -> None:
        """Ends these agents, each answered by `Stopped`: those with nothing to finish at once, in one frame.

        Those that are ending already have their grace shortened, and are answered once.
        """
        for uid in uids:
            resident = self._by_uid.get(uid)
            if resident is None:
                self._awaited.pop(uid, None)
                if uid not in self._ending:
                    self._say_stopped(uid)
            elif resident.grace is not None:
                resident.grace.shorten(grace_s)
            elif _has_nothing_to_finish(resident):
                self._remove(resident, partial(self._say_stopped, uid))
            else:
                resident.grace = Grace(grace_s)
                stopping = self._wind_up(resident, resident.grace, partial(self._say_stopped, uid))
                self._tasks.start(stopping, f"stop {resident.name}")
        self._flush()

    def _say_stopped(self, uid: str) -> None:
        self._flush_soon()
        self._stopped.append(uid)

    async def close(self, grace_s: float) -> None:
        """Ends all of them within `grace_s` seconds, and a little for their `on_stop`."""
        self._awaited.clear()
        residents = tuple(self._by_uid.values())
        self.stop(tuple(resident.uid for resident in residents), grace_s)
        if self._by_uid:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    async def _wind_up(self, resident: Resident, grace: Grace, say: Callable[[], None]) -> None:
        """Lets its calls end, then `on_stop` run; what is left when its grace is over is cancelled. See `_remove`."""
        was_running = resident.state is State.RUNNING
        resident.state, resident.grace = State.STOPPING, grace
        self._by_name.pop(resident.name, None)
        resident.stop_probes()
        if resident.in_flight:
            resident.idle = asyncio.Event()
            if not await grace.allows(resident.idle.wait()):
                self._invoker.interrupt(resident.uid, f"{resident.label} is stopping")
        if was_running and resident.bound is not None and resident.bound.has_on_stop:
            stopping = self._tasks.start(self._run_on_stop(resident, resident.bound), f"on_stop {resident.name}")
            # A task of its own, because its author may swallow the cancellation that ends it.
            await grace.allows(asyncio.wait((stopping,)), ON_STOP_S_MIN)
            resident.adopt(stopping)
        self._remove(resident, say)

    async def _run_on_stop(self, resident: Resident, bound: BoundAgent) -> None:
        try:
            await resident.run(bound.stop())
        except BaseException as error:
            if is_over(error):
                raise
            log.exception("on_stop failed", extra={"agent_uid": resident.uid})

    def _remove(self, resident: Resident, say: Callable[[], None]) -> None:
        """It is gone from here; `say` tells the node so once its code has ended too, which mostly is at once."""
        if resident.state is State.GONE:
            return
        if self._by_uid.get(resident.uid) is resident:
            del self._by_uid[resident.uid]
        if self._by_name.get(resident.name) is resident:
            del self._by_name[resident.name]
        resident.end(partial(self._over, resident.uid, say))
        if resident.over is not None:
            self._ending[resident.uid] = resident, 0
            self._insist_later()
        if self._emptied is not None and not self._by_uid:
            self._emptied.set()  # who clings goes with the process

    def _over(self, uid: str, say: Callable[[], None]) -> None:
        self._ending.pop(uid, None)
        say()

    def _insist_later(self) -> None:
        if not self._insisting:
            self._insisting = True
            self._loop.call_later(INSIST_PERIOD_S, self._insist)

    def _insist(self) -> None:
        self._insisting = False
        for uid, (resident, past) in tuple(self._ending.items()):
            periods = past + 1
            self._ending[uid] = resident, periods
            if periods < INSISTED_MAX:
                self._insist_later()
            if periods == INSISTED_MAX - 1:
                resident.cancel_tasks()
            elif periods == INSISTED_MAX:
                message = f"code of {resident.label} goes on although it was cancelled: {resident.remains()}"
                self._send(Clinging(uid, message))


def _has_nothing_to_finish(resident: Resident) -> bool:
    bound = resident.bound
    return not resident.in_flight and not (resident.state is State.RUNNING and bound is not None and bound.has_on_stop)
