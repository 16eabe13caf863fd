"""What this process sees of the agents it calls, between two reports to its node."""

from __future__ import annotations

from choregos.wire.worker import CallStats

AGENTS_MAX = 10_000
"""Agents counted between two reports; calls to more are not counted until the next."""


class _Tally:
    __slots__ = ("calls", "failures", "latency_s_sum", "load")

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.latency_s_sum = 0.0
        self.load = 0


class Tallies:
    """Counts per agent.

    Attributes:
        in_flight: calls of this process under way, by uid; agents without any are not in it.
    """

    def __init__(self) -> None:
        self.in_flight: dict[str, int] = {}
        self._tallies: dict[str, _Tally] = {}

    def begin(self, uid: str) -> None:
        self.in_flight[uid] = self.in_flight.get(uid, 0) + 1

    def end(self, uid: str) -> None:
        left = self.in_flight[uid] - 1
        if left:
            self.in_flight[uid] = left
        else:
            del self.in_flight[uid]

    def count(self, uid: str, latency_s: float, *, failed: bool, load: int = 0) -> None:
        """Adds one call that ended; `load` is what the agent said it was serving, 0 if it did not say."""
        tally = self._tallies.get(uid)
        if tally is None:
            if len(self._tallies) >= AGENTS_MAX:
                return
            tally = self._tallies[uid] = _Tally()
        tally.calls += 1
        tally.failures += failed
        tally.latency_s_sum += latency_s
        tally.load = load

    def take(self) -> tuple[CallStats, ...]:
        """Everything counted since the last time, and begins anew."""
        tallies, self._tallies = self._tallies, {}
        counted = [
            CallStats(uid, tally.calls, tally.failures, tally.latency_s_sum * 1000.0, max(tally.load, self._load(uid)))
            for uid, tally in tallies.items()
        ]
        waiting = [CallStats(uid, 0, 0, 0.0, count) for uid, count in self.in_flight.items() if uid not in tallies]
        return (*counted, *waiting)

    def _load(self, uid: str) -> int:
        return self.in_flight.get(uid, 0)
