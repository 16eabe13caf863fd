"""Tells the operator whose requests are turned away because there are too many: a line of the log, not one for each.

Invariant: a flow has one line in a minute, however many of its requests are turned away; and so have all together that
come when many flows had theirs.
"""

from __future__ import annotations

import logging

from choregos.foundation.clock import Clock

log = logging.getLogger(__name__)

PERIOD_S = 60.0
FLOWS_MAX = 100
_OTHERS = "others"


class TurnedAway:
    """Of one server."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: set[str] = set()
        self._began_s = clock.monotonic()

    def note(self, flow: str, why: str) -> None:
        """A request of `flow` was answered with 429.

        Args:
            why: the message of the answer.
        """
        now_s = self._clock.monotonic()
        if now_s - self._began_s >= PERIOD_S:
            self._told.clear()
            self._began_s = now_s
        name = flow if flow in self._told or len(self._told) < FLOWS_MAX else _OTHERS
        if name not in self._told:
            self._told.add(name)
            log.warning("requests of %s are turned away: %s", name, why)
