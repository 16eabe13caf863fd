"""Keeps a status that changes all the time from being written all the time.

Invariant: between two paced writes of a key lies at least the interval, and what was held back is written at its end:
whoever is told to wait comes again after that time.
"""

from __future__ import annotations

from collections.abc import Hashable

from choregos.foundation.clock import Clock

STATUS_INTERVAL_S = 0.2
"""Seconds between status writes of one object: five a second are more than people and `kubectl get -w` can follow."""


class Pace:
    """When each key was last written. Keys must be dropped with `forget` when their objects go."""

    def __init__(self, clock: Clock, interval_s: float = STATUS_INTERVAL_S) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._written: dict[Hashable, float] = {}

    def wait_s(self, key: Hashable) -> float:
        """Seconds until `key` may be written; 0: now."""
        written = self._written.get(key)
        return 0.0 if written is None else max(0.0, written + self._interval_s - self._clock.monotonic())

    def written(self, key: Hashable) -> None:
        self._written[key] = self._clock.monotonic()

    def forget(self, key: Hashable) -> None:
        self._written.pop(key, None)
