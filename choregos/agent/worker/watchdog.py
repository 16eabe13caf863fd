"""Notices an agent that keeps the event loop, and interrupts it, so that its neighbours go on.

A thread looks at the floor several times per block timeout. When one step, or one turn with all its steps, lasts
longer than its agent may, the thread sends `SIGUSR1` to the main thread, whose handler raises `AgentBlocked` right
there: that ends a loop in Python and a system call that can be interrupted. C code that neither returns nor releases
the interpreter's lock stops this thread too; then the node sees the silence and replaces the worker.

Invariant: `AgentBlocked` is raised only while the blamed turn still runs, and never inside code that other agents
share (choregos, asyncio, nats-py), whose state would be left half changed; the thread tries again until it meets
code of the agent.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable
from types import FrameType

from choregos.agent.worker.stepping import AgentBlocked, Floor, Steppable
from choregos.foundation.clock import Clock

_LOOKS_PER_TIMEOUT = 8
_LOOK_PERIOD_S_MAX = 1.0
_LOOK_PERIOD_S_MIN = 0.01
_STRIKE_PERIOD_S = 0.02
_SHARED_CODE = frozenset({"choregos", "asyncio", "nats", "uvloop"})
_STACK_CHARACTERS_MAX = 8 * 1024

OnBlocked = Callable[[Steppable, float, str], None]
"""The agent, how long it kept the loop in seconds, where it was; called in the watchdog's thread."""


class Watchdog:
    """One per worker; `start` must be called in the main thread."""

    def __init__(self, floor: Floor, clock: Clock, on_blocked: OnBlocked) -> None:
        self._floor = floor
        self._clock = clock
        self._on_blocked = on_blocked
        self._period_s = _LOOK_PERIOD_S_MAX
        self._wake = threading.Event()
        self._stopped = False
        self._main = threading.get_ident()
        # What the handler shall do (turn, whom), set by the thread; what it did, set by the handler.
        self._order: tuple[int, Steppable, float] | None = None
        self._stack: str | None = None
        self._thread = threading.Thread(target=self._watch, name="choregos watchdog", daemon=True)

    def start(self) -> None:
        signal.signal(signal.SIGUSR1, self._strike)
        self._thread.start()

    def expect(self, block_timeout_s: float) -> None:
        """An agent with this limit has come: look often enough for it."""
        period_s = max(_LOOK_PERIOD_S_MIN, block_timeout_s / _LOOKS_PER_TIMEOUT)
        if period_s < self._period_s:
            self._period_s = period_s
            self._wake.set()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def _watch(self) -> None:
        floor, clock = self._floor, self._clock
        step = turn = -1
        step_since = turn_since = 0.0
        while not self._stopped:
            self._wake.wait(self._period_s)
            self._wake.clear()
            now = clock.monotonic()
            resident, opener = floor.resident, floor.opener
            if resident is None or opener is None:
                step = turn = -1
                continue
            if floor.turn != turn:
                turn, turn_since = floor.turn, now
            if floor.step != step:
                step, step_since = floor.step, now
            if now - step_since >= resident.block_timeout_s:
                self._interrupt(turn, resident, step_since)
            elif now - turn_since >= opener.block_timeout_s:
                self._interrupt(turn, opener, turn_since)

    def _interrupt(self, turn: int, resident: Steppable, since: float) -> None:
        """Strikes until the turn is over, by our doing or by itself."""
        self._stack = None
        while self._floor.turn == turn and self._floor.resident is not None and not self._stopped:
            seconds = self._clock.monotonic() - since
            self._order = (turn, resident, seconds)
            signal.pthread_kill(self._main, signal.SIGUSR1)
            self._wake.wait(_STRIKE_PERIOD_S)
            if self._stack is not None:
                self._on_blocked(resident, seconds, self._stack)
                self._stack = None
                resident_left = self._floor.turn != turn or self._floor.resident is None
                if resident_left:
                    break
        self._order = None

    def _strike(self, _signal: int, frame: FrameType | None) -> None:
        """The signal's handler: runs in the main thread, between two instructions of whatever runs there."""
        order = self._order
        if order is None or frame is None:
            return
        turn, resident, seconds = order
        floor = self._floor
        if floor.turn != turn or floor.resident is None or _is_shared(frame):
            return
        self._order = None
        stack = _stack_of_agent(frame)
        blocked = AgentBlocked(
            resident, f"{resident.label} kept the event loop of its worker for {seconds:.1f} s and was interrupted"
        )
        blocked.stack = stack
        self._stack = stack
        raise blocked


def _is_shared(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return isinstance(name, str) and name.partition(".")[0] in _SHARED_CODE


def _stack_of_agent(frame: FrameType) -> str:
    """The stack without what is below the agent's own code, outermost call first."""
    lines = traceback.format_stack(frame)
    depth = 0
    current: FrameType | None = frame
    while current is not None and not _is_shared(current):
        depth += 1
        current = current.f_back
    return "".join(lines[-depth:])[-_STACK_CHARACTERS_MAX:]
