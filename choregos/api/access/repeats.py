"""Which of the refusals that are the same are recorded, so that one who does not stop leaves a few lines.

What is refused again is recorded when it has happened 2, 4, 8 … times within `WINDOW_S`, with that number. So the first
is recorded at once, the last number is at least half of the truth, and a loop of a million is 20 lines. The caller says
what is the same. Invariant: what has not been noted before is recorded.
"""

from __future__ import annotations

from collections.abc import Hashable

from choregos.foundation.clock import Clock

WINDOW_S = 600.0
KNOWN_MAX = 10_000
"""Things that are counted at a time; what has not happened for longest is counted anew."""

REPEATED = "choregos.dev/repeated"
"""Annotation: how often the same was refused in this window, this one included."""


class Repeats:
    """Counts the refusals of one server."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[Hashable, tuple[int, float]] = {}  # how often, since when; the latest at the end

    def note(self, what: Hashable) -> int | None:
        """It has happened once more; how often, if it is to be recorded with that number, or None."""
        now = self._clock.monotonic()
        count, since = self._counts.pop(what, (0, now))
        if now - since > WINDOW_S:
            count, since = 0, now
        count += 1
        self._counts[what] = count, since
        if len(self._counts) > KNOWN_MAX:
            del self._counts[next(iter(self._counts))]
        return count if count & (count - 1) == 0 else None
