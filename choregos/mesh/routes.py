"""Which of several agents to call: what was seen of them, and the choice by it. Pure: time and dice are arguments.

Two ideas. What is known of an agent is a moving mean that forgets: with time success drifts back to 1 and latency
stays, so an agent that failed is tried again by and by. And nobody calls "the best": the node offers a few good ones
and the caller takes the cheaper of two at random (Mitzenmacher, "The Power of Two Choices in Randomized Load
Balancing", 2001), so that a crowd of callers does not run after one agent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from choregos.wire.worker import CallStats, Candidate

CANDIDATES_MAX = 32
"""Most candidates a resolution offers."""

UNTRIED_MIN = 8
"""Places among them for agents that nobody has called yet, if there are any."""

WEIGHT = 0.2
"""Of one call in the moving means."""

FORGET_S = 30.0
"""Half-life of what is known of failures and load."""

SUCCESS_MIN = 0.02
"""Success is not counted below this, so that costs stay finite."""


class Target(NamedTuple):
    """Who is wanted: one agent by name, or any with a capability; exactly one of the two is not empty.

    Attributes:
        selector: labels and fields the agent must have: `tier=gold,spec.node!=n1`; empty for any.
    """

    namespace: str
    agent: str = ""
    capability: str = ""
    selector: str = ""

    def __str__(self) -> str:
        what = f"agent {self.agent}" if self.agent else f"capability {self.capability}"
        return f"{what} in {self.namespace}" + (f" with {self.selector}" if self.selector else "")


class Answer(NamedTuple):
    """What a call returned.

    Attributes:
        result: as builtin types.
        agent: name of the agent that answered.
    """

    result: Any
    agent: str


class Score:
    """Moving means of one agent.

    Attributes:
        latency_ms: of its answers; 0 until there was one.
        success: share of answers that were no failure, 0 to 1.
        in_flight: calls it was seen serving.
        seen_s: monotonic time of the last observation.
    """

    __slots__ = ("in_flight", "latency_ms", "seen_s", "success")

    def __init__(self, now_s: float) -> None:
        self.latency_ms = 0.0
        self.success = 1.0
        self.in_flight = 0.0
        self.seen_s = now_s

    def observe(self, stats: CallStats, now_s: float) -> None:
        """Adds what one caller saw since its last report."""
        self._forget(now_s)
        self.in_flight += (stats.in_flight - self.in_flight) * 0.5
        if stats.calls <= 0:
            return
        weight = 1.0 - (1.0 - WEIGHT) ** min(stats.calls, 64)
        mean_ms = stats.latency_ms_sum / stats.calls
        self.latency_ms += (mean_ms - self.latency_ms) * (weight if self.latency_ms else 1.0)
        self.success += (1.0 - stats.failures / stats.calls - self.success) * weight

    def success_at(self, now_s: float) -> float:
        return 1.0 - (1.0 - self.success) * self._kept(now_s)

    def in_flight_at(self, now_s: float) -> float:
        return self.in_flight * self._kept(now_s)

    def _forget(self, now_s: float) -> None:
        self.success, self.in_flight = self.success_at(now_s), self.in_flight_at(now_s)
        self.seen_s = now_s

    def _kept(self, now_s: float) -> float:
        return math.exp2(-max(0.0, now_s - self.seen_s) / FORGET_S)


def cost(latency_ms: float, success: float, in_flight: float) -> float:
    """What calling an agent is expected to cost, in milliseconds: the wait behind its load, over repeated tries.

    An unknown latency counts as 1 ms, which matters only where all are unknown: see `shortlist`.
    """
    return (latency_ms or 1.0) * (1.0 + in_flight) / max(success, SUCCESS_MIN) ** 2


class Statistics:
    """The scores of the agents seen lately; bounded, the longest unseen goes first."""

    def __init__(self, agents_max: int = 50_000) -> None:
        self._agents_max = agents_max
        self._scores: dict[str, Score] = {}

    def __len__(self) -> int:
        return len(self._scores)

    def observe(self, stats: CallStats, now_s: float) -> None:
        # Taken out and put in again, so that the dictionary's order is that of the last observation.
        score = self._scores.pop(stats.uid, None)
        if score is None:
            score = Score(now_s)
            if len(self._scores) >= self._agents_max:
                del self._scores[next(iter(self._scores))]
        score.observe(stats, now_s)
        self._scores[stats.uid] = score

    def score(self, uid: str) -> Score | None:
        """None for an agent that was not tried yet."""
        return self._scores.get(uid)


def shortlist(candidates: Iterable[Candidate], size: int = CANDIDATES_MAX) -> tuple[Candidate, ...]:
    """The cheapest, best first, with room kept for agents that nobody has tried yet (their latency is 0).

    An untried agent is expected to be as fast as the tried ones are on average, and gets that as its latency: fewer
    calls would never tell, and as "0 ms" it would draw every call until the first answer.
    """
    known: list[Candidate] = []
    untried: list[Candidate] = []
    for candidate in candidates:
        (known if candidate.latency_ms else untried).append(candidate)
    known.sort(key=_static_cost)
    room = min(len(untried), size, max(size - len(known), UNTRIED_MIN))
    best = known[: size - room]
    # Nobody tried: all are equal in what is unknown, and it stays 0.
    mean_ms = sum(candidate.latency_ms for candidate in best) / len(best) if best else 0.0
    best += [msgspec.structs.replace(candidate, latency_ms=mean_ms) for candidate in untried[:room]]
    return tuple(sorted(best, key=_static_cost))


def choose(
    candidates: Sequence[Candidate], in_flight: Mapping[str, int], rolls: tuple[float, float], avoid: str = ""
) -> Candidate | None:
    """The cheaper of two candidates taken at random; None if there is none but `avoid`.

    Args:
        in_flight: calls of this process under way, by uid: fresher than what the candidates carry.
        rolls: two numbers in [0, 1).
        avoid: uid of a candidate that has just refused.
    """
    if avoid:
        candidates = [candidate for candidate in candidates if candidate.uid != avoid]
    count = len(candidates)
    if count == 0:
        return None
    if count == 1:
        return candidates[0]
    first = int(rolls[0] * count)
    second = int(rolls[1] * (count - 1))
    if second >= first:
        second += 1
    one, other = candidates[first], candidates[second]
    return one if _candidate_cost(one, in_flight) <= _candidate_cost(other, in_flight) else other


def _static_cost(candidate: Candidate) -> float:
    return cost(candidate.latency_ms, candidate.success, candidate.in_flight)


def _candidate_cost(candidate: Candidate, in_flight: Mapping[str, int]) -> float:
    load = max(candidate.in_flight, in_flight.get(candidate.uid, 0))
    return cost(candidate.latency_ms, candidate.success, load)
