"""Who wants to be woken when, on one timer of the event loop.

Times are those of one clock, the host's. The loop's timers have a clock of their own, which may be behind it by what
the loop has been busy with; so a timer that fires is a reason to look, and nothing else.

Invariants: a uid has one wish at most, the last; a wish is given up only when its time has come by the clock, when it
is replaced, or when it is dropped, so a timer that fires early or late loses nothing; while there is a wish there is a
timer.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Protocol

from choregos.foundation.clock import Clock

DELAY_S_MIN = 0.001
"""A loop that counts milliseconds would run a shorter timer at once, and again and again until its time has come."""

_REPLACED_MAX = 64


class Timer(Protocol):
    def cancel(self) -> None: ...


class Alarms:
    """Must be used in one thread.

    Args:
        call_later: of the event loop: (seconds from now, what to call).
        on_due: told those whose time has come, together.
    """

    def __init__(
        self,
        clock: Clock,
        call_later: Callable[[float, Callable[[], None]], Timer],
        on_due: Callable[[Sequence[str]], None],
    ) -> None:
        self._clock = clock
        self._call_later = call_later
        self._on_due = on_due
        self._wishes: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []  # a heap of the wishes, and of some that have been replaced
        self._timer: Timer | None = None
        self._set_for = 0.0  # what the timer is set for, if there is one

    def __len__(self) -> int:
        return len(self._wishes)

    def set(self, uid: str, at_s: float) -> None:
        """Wakes `uid` at this time of the clock instead of any other."""
        self._wishes[uid] = at_s
        heapq.heappush(self._order, (at_s, uid))
        if len(self._order) > 2 * len(self._wishes) + _REPLACED_MAX:
            self._order = [(wished_s, each) for each, wished_s in self._wishes.items()]
            heapq.heapify(self._order)
        self._arm()

    def drop(self, uid: str) -> None:
        """Wakes `uid` no more."""
        self._wishes.pop(uid, None)

    def close(self) -> None:
        """Wakes nobody any more."""
        self._wishes.clear()
        self._order.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        at_s = self._order[0][0]
        if self._timer is not None:
            if self._set_for <= at_s:
                return
            self._timer.cancel()
        self._set_for = at_s
        self._timer = self._call_later(max(DELAY_S_MIN, at_s - self._clock.monotonic()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now_s = self._clock.monotonic()
        due: list[str] = []
        while self._order and self._order[0][0] <= now_s:
            at_s, uid = heapq.heappop(self._order)
            if self._wishes.get(uid) == at_s:
                del self._wishes[uid]
                due.append(uid)
        if self._order:
            self._arm()
        if due:
            self._on_due(due)
