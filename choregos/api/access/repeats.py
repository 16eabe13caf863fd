"""Which of the many refusals of one who does not stop are recorded, so that they push nothing else out of the record.

The same refused again is recorded when it has happened 2, 4, 8 … times within `WINDOW_S`, with that number. Different
refusals of one and the same are recorded one by one up to `LINES_MAX`, and beyond that likewise. So the first of
anything is recorded at once, the last number is at least half of the truth, and a loop of a million is 20 lines.
"""

from __future__ import annotations

from collections.abc import Hashable

from choregos.foundation.clock import Clock

WINDOW_S = 600.0
LINES_MAX = 100
KNOWN_MAX = 10_000
"""Things that are counted at a time; what has not happened for longest is counted anew."""

REPEATED = "choregos.dev/repeated"
"""Annotation: how often the same was refused in this window, this one included."""

REFUSALS = "choregos.dev/refusals"
"""Annotation: how many different things were refused to the same one in this window, this one included."""


class Repeats:
    """Counts the refusals of one server."""

    def __init__(self, clock: Clock) -> None:
        self._same = _Counts(clock)
        self._of_who = _Counts(clock)

    def note(self, who: str, what: Hashable) -> dict[str, str] | None:
        """A refusal has happened; the annotations to record it with, or None if it is not recorded by itself."""
        same = self._same.add(hash((who, what)))  # what was asked for may be long
        if not _is_power_of_two(same):
            return None
        refusals = self._of_who.add(who)
        annotations = {REPEATED: str(same)} if same > 1 else {}
        if refusals > LINES_MAX:
            if not _is_power_of_two(refusals):
                return None
            annotations[REFUSALS] = str(refusals)
        return annotations


class _Counts:
    """How often each key has come since it first came, at most `WINDOW_S` ago."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[Hashable, tuple[int, float]] = {}  # how often, since when; the latest at the end

    def add(self, key: Hashable) -> int:
        now = self._clock.monotonic()
        count, since = self._counts.pop(key, (0, now))
        if now - since > WINDOW_S:
            count, since = 0, now
        self._counts[key] = count + 1, since
        if len(self._counts) > KNOWN_MAX:
            del self._counts[next(iter(self._counts))]
        return count + 1


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
