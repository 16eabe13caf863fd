"""How the agents of a worker share its processor time, measured while somebody asks (`kubectl top`).

Added up for each agent is how long it has the floor, and the processor time of the threads that run its plain methods.
A clock is read whenever the floor changes hands, which is cheap; reading the processor time then would not be. So that
both can be added, times on the floor are scaled down to the processor time that the main thread had meanwhile. All is
known for the last one to two `WINDOW_S`, or for as long as it is measured.

Invariants: while nobody asks nothing is measured, and a step on the floor pays for one comparison, a call in a thread
for one entry of a dictionary; whoever has done nothing lately takes no room. Threads touch only what the lock guards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from choregos.agent.worker.stepping import Floor

WINDOW_S = 15.0
ASKED_S = 60.0
"""So long after the last question measuring goes on."""


class Meter:
    """Handling times by agent uid, in seconds; made for a worker's floor.

    Args:
        now: a monotonic clock, in seconds; asked twice for every step of an agent, so without detours.
        used: processor time of the main thread, in seconds.
    """

    def __init__(
        self, floor: Floor, now: Callable[[], float] = time.monotonic, used: Callable[[], float] = time.thread_time
    ) -> None:
        self._floor = floor
        self._now = now
        self._now_s = 0.0  # when the floor last changed hands
        self._used = used
        self._used_s = 0.0  # when the window began
        self._spent: dict[str, float] = {}
        self._spent_before: Mapping[str, float] = {}  # in the window before
        self._window_ends_s = 0.0
        self._ends_s = 0.0
        self._lock = threading.Lock()  # guards what follows
        self._spent_in_threads: dict[str, float] = {}  # in this window
        self._threads: dict[int, tuple[str, float | None]] = {}  # thread → its agent, its processor time when charged

    @property
    def is_on(self) -> bool:
        return self._floor.meter is not None

    def ask(self) -> None:
        """Somebody asks: measuring begins, or goes on."""
        now_s = self._now()
        self._ends_s = now_s + ASKED_S
        if not self.is_on:
            self._now_s, self._used_s, self._window_ends_s = now_s, self._used(), now_s + WINDOW_S
            self._floor.meter = self
            self._charge_threads()
            self._forget_threads()

    def read(self) -> Mapping[str, float]:
        """Seconds by uid; those that are left out have handled nothing."""
        return _sum(self._spent_before, self._window())

    def tick(self) -> None:
        """To be called about once a second."""
        if not self.is_on:
            return
        now_s = self._now()
        if now_s >= self._ends_s:
            self._floor.meter = None
            self._spent, self._spent_before = {}, {}
        elif now_s >= self._window_ends_s:
            self._spent_before, self._spent = self._window(), {}
            self._forget_threads()
            self._used_s, self._window_ends_s = self._used(), now_s + WINDOW_S

    def charge(self, uid: str) -> None:
        """Until now this agent has had the floor, nobody if it is empty; called whenever that changes."""
        now_s = self._now()
        if uid:
            spent = self._spent
            spent[uid] = spent.get(uid, 0.0) + now_s - self._now_s
        self._now_s = now_s

    def in_thread(self, uid: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Runs an agent's function in the present thread, on its account."""
        thread = threading.get_ident()
        charged_s = time.thread_time() if self.is_on else None
        with self._lock:
            self._threads[thread] = uid, charged_s
        try:
            return function(*arguments, **named)
        finally:
            with self._lock:
                self._charge_thread(thread)
                del self._threads[thread]

    def _window(self) -> Mapping[str, float]:
        """What was spent in the present window."""
        self.charge(self._floor.resident.uid if self._floor.resident is not None else "")
        held_s, used_s = sum(self._spent.values()), self._used() - self._used_s
        scale = min(1.0, used_s / held_s) if held_s > 0 else 0.0
        on_floor = {uid: seconds * scale for uid, seconds in self._spent.items()}
        self._charge_threads()
        with self._lock:
            return _sum(on_floor, self._spent_in_threads)

    def _forget_threads(self) -> None:
        with self._lock:
            self._spent_in_threads.clear()

    def _charge_threads(self) -> None:
        with self._lock:
            for thread in tuple(self._threads):
                self._charge_thread(thread)

    def _charge_thread(self, thread: int) -> None:
        """What a running thread has used since it was last charged; one that was not, begins now."""
        uid, charged_s = self._threads[thread]
        if charged_s is None and not self.is_on:
            return
        used_s = _processor_time(thread)
        self._threads[thread] = uid, used_s
        if charged_s is not None:
            self._spent_in_threads[uid] = self._spent_in_threads.get(uid, 0.0) + used_s - charged_s


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> Mapping[str, float]:
    return {uid: one.get(uid, 0.0) + other.get(uid, 0.0) for uid in one.keys() | other.keys()}


def _processor_time(thread: int) -> float:
    """Of a thread of this process that lives: those of an executor do as long as it."""
    if not hasattr(time, "pthread_getcpuclockid"):  # macOS
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread))


class AgentThreads(ThreadPoolExecutor):
    """The event loop's executor: knows on whose account a function runs, that of the agent which hands it over."""

    def __init__(self, floor: Floor, meter: Meter) -> None:
        super().__init__(thread_name_prefix="choregos agent")
        self._floor = floor
        self._meter = meter

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        resident = self._floor.resident
        if resident is None or threading.current_thread() is not threading.main_thread():
            return super().submit(function, *arguments, **named)
        return super().submit(self._meter.in_thread, resident.uid, function, *arguments, **named)
