"""Asks agents regularly whether they are well: liveness and readiness probes, in the worker, on its event loop.

An agent without probes costs nothing here; one with a probe costs a timer, and a task while it is being asked.

Invariants: a probe is asked once at a time; a verdict needs `failure_threshold` failures in a row. A timeout that
came so late that the event loop itself must have been held up counts for nothing: another agent's block is not
this one's fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from choregos.agent.worker.stepping import is_over
from choregos.foundation.tasks import Tasks
from choregos.foundation.timeout import timeout
from choregos.messaging.tracebacks import summary_of
from choregos.wire.worker import Probe

_LATE_FACTOR = 2.0
_MESSAGE_CHARACTERS_MAX = 1024

Ask = Callable[[str], Awaitable[object]]
"""Runs the named method of the agent."""

OnVerdict = Callable[[bool, str], None]
"""Whether it is well, and why not; told when it changes, and at the first answer."""


class ProbeTimer:
    """One probe of one agent; asks from `start` until `stop`.

    Args:
        well: what is taken for granted before the first answer; None to tell the first answer whatever it is.
    """

    __slots__ = ("_ask", "_failures", "_loop", "_on_verdict", "_probe", "_task", "_tasks", "_timer", "_well")

    def __init__(self, probe: Probe, ask: Ask, on_verdict: OnVerdict, tasks: Tasks, *, well: bool | None) -> None:
        self._probe = probe
        self._ask = ask
        self._on_verdict = on_verdict
        self._tasks = tasks
        self._well = well
        self._failures = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._timer = self._loop.call_later(self._probe.initial_delay_s, self._begin)

    def stop(self) -> asyncio.Task[None] | None:
        """Asks no more; returns the question that was under way, which is cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task, self._task = self._task, None
        if task is None or task.done():
            return None
        task.cancel()
        return task

    def _begin(self) -> None:
        self._task = self._tasks.start(self._check(), f"probe {self._probe.method}")

    async def _check(self) -> None:
        started = self._loop.time()
        failure: str | None = None
        late = False
        try:
            async with timeout(self._probe.timeout_s):
                if await self._ask(self._probe.method) is False:
                    failure = f"{self._probe.method}() returned False"
        except TimeoutError:
            late = self._loop.time() - started > self._probe.timeout_s * _LATE_FACTOR
            failure = f"{self._probe.method}() took longer than {self._probe.timeout_s:g} s"
        except BaseException as error:
            if is_over(error):
                raise
            failure = f"{self._probe.method}() raised {summary_of(error)}"[:_MESSAGE_CHARACTERS_MAX]
        if not late:
            self._judge(failure)
        if self._timer is not None:
            self._timer = self._loop.call_later(self._probe.period_s, self._begin)

    def _judge(self, failure: str | None) -> None:
        if failure is None:
            self._failures = 0
            self._conclude(True, "")
            return
        self._failures += 1
        if self._failures >= self._probe.failure_threshold:
            self._conclude(False, failure)

    def _conclude(self, well: bool, message: str) -> None:
        if well is not self._well:
            self._well = well
            self._on_verdict(well, message)
