"""Tells the operator whose requests are turned away because there are too many: a line of the log, not one for each.

Invariant: a flow has one line in a minute, however many of its requests are turned away; and so have all of them
together that come when many flows had theirs.
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
        self._counts: dict[str, int] = {}
        self._began = 0.0

    def note(self, flow: str, why: str) -> None:
        """A request of `flow` was answered with 429.

        Args:
            why: the message of the answer.
        """
        now = self._clock.monotonic()
        if now - self._began >= PERIOD_S:
            self._summarize()
            self._began = now
        name = flow if flow in self._counts or len(self._counts) < FLOWS_MAX else _OTHERS
        count = self._counts[name] = self._counts.get(name, 0) + 1
        if count == 1:
            log.warning("requests of %s are turned away: %s", name, why)

    def _summarize(self) -> None:
        many = {flow: count for flow, count in self._counts.items() if count > 1}
        if many:
            log.warning(
                "turned away in a minute: %s", ", ".join(f"{count} requests of {flow}" for flow, count in many.items())
            )
        self._counts.clear()
