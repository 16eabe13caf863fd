"""Records that speak of something whose own record is not there, or not yet.

A reader that catches up may see a status before the newest record of its agent, so it keeps it until that comes. What
speaks of an agent that is gone would be kept for ever; so what has waited for longer than any reader needs to catch up
is dropped when something else begins to wait. That bounds a model to what was written within `WAITING_S`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from choregos.foundation.clock import Clock
from choregos.store.instance import Key

R = TypeVar("R")

WAITING_S = 3600.0


class Waiting(Generic[R]):
    """By the key of the instance that is spoken of; the latest record of a key replaces the one before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[Key, tuple[R, int, float]] = {}  # record, sequence, since when; oldest first

    def __len__(self) -> int:
        return len(self._records)

    def put(self, key: Key, record: R, sequence: int) -> None:
        """Keeps `record`; `sequence` is no less than its own."""
        now = self._clock.monotonic()
        self._records.pop(key, None)
        while self._records:
            oldest = next(iter(self._records))
            if self._records[oldest][2] > now - WAITING_S:
                break
            del self._records[oldest]
        self._records[key] = record, sequence, now

    def take(self, key: Key) -> R | None:
        found = self._records.pop(key, None)
        return None if found is None else found[0]

    def sequences(self) -> Iterator[tuple[Key, int]]:
        for key, (_, sequence, _) in self._records.items():
            yield key, sequence
