"""The choice among agents: moving means, the shortlist, two at random."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.mesh.routes import (
    CANDIDATES_MAX,
    FORGET_S,
    UNTRIED_MIN,
    Score,
    Statistics,
    Target,
    choose,
    cost,
    shortlist,
)
from choregos.wire.worker import CallStats, Candidate


def candidate(number: int, latency_ms: float = 0.0, success: float = 1.0, in_flight: float = 0.0) -> Candidate:
    return Candidate(f"a-{number}", f"uid-{number}", "host", latency_ms, success, in_flight)


CANDIDATES = st.lists(
    st.tuples(
        st.integers(0, 10_000), st.just(0.0) | st.floats(0.1, 10_000.0), st.floats(0.0, 1.0), st.floats(0.0, 50.0)
    ),
    max_size=100,
    unique_by=lambda each: each[0],
).map(lambda rows: [candidate(*row) for row in rows])


class TestScore:
    def test_the_first_observation_counts_fully(self) -> None:
        score = Score(0.0)
        score.observe(CallStats("u", 1, 0, 20.0, 0), 0.0)
        assert score.latency_ms == 20.0
        assert score.success == 1.0

    def test_later_ones_move_it(self) -> None:
        score = Score(0.0)
        score.observe(CallStats("u", 1, 0, 20.0, 0), 0.0)
        score.observe(CallStats("u", 1, 0, 120.0, 0), 0.0)
        assert score.latency_ms == pytest.approx(40.0)

    def test_many_calls_move_it_more_than_one(self) -> None:
        one, many = Score(0.0), Score(0.0)
        for score, calls in ((one, 1), (many, 20)):
            score.observe(CallStats("u", calls, calls, calls * 10.0, 0), 0.0)
        assert many.success < one.success < 1.0

    def test_failures_are_forgotten_with_time(self) -> None:
        score = Score(0.0)
        score.observe(CallStats("u", 64, 64, 64.0, 8), 0.0)
        assert score.success_at(0.0) < 0.01
        assert score.success_at(FORGET_S) == pytest.approx(0.5, abs=0.01)
        assert score.success_at(20 * FORGET_S) == pytest.approx(1.0, abs=0.001)
        assert score.in_flight_at(FORGET_S) == pytest.approx(score.in_flight_at(0.0) / 2)

    @given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 100)), max_size=30))
    def test_it_stays_within_its_range(self, seen: list[tuple[int, float, float, float]]) -> None:
        score, now_s = Score(0.0), 0.0
        for calls, failed, latency_ms, pause_s in seen:
            now_s += pause_s
            score.observe(CallStats("u", calls, int(calls * failed), latency_ms * calls, 1), now_s)
            assert 0.0 <= score.success_at(now_s) <= 1.0
            assert 0.0 <= score.latency_ms <= 1e6 * 1.001


class TestStatistics:
    def test_the_longest_unseen_goes_first(self) -> None:
        statistics = Statistics(agents_max=2)
        for uid in ("a", "b", "a", "c"):
            statistics.observe(CallStats(uid, 1, 0, 1.0, 0), 0.0)
        assert statistics.score("b") is None
        assert statistics.score("a") is not None
        assert len(statistics) == 2


class TestCost:
    def test_slow_failing_and_busy_agents_cost_more(self) -> None:
        assert cost(10, 1, 0) < cost(20, 1, 0)
        assert cost(10, 1, 0) < cost(10, 0.5, 0)
        assert cost(10, 1, 0) < cost(10, 1, 3)

    def test_a_hopeless_agent_has_a_finite_cost(self) -> None:
        assert cost(1, 0, 0) == cost(1, 0.001, 0) < float("inf")


class TestShortlist:
    @given(CANDIDATES)
    def test_it_is_short_has_no_repeats_and_begins_with_the_best(self, candidates: list[Candidate]) -> None:
        chosen = shortlist(candidates)
        assert len(chosen) == min(len(candidates), CANDIDATES_MAX)
        assert len({each.uid for each in chosen}) == len(chosen)
        costs = [cost(each.latency_ms, each.success, each.in_flight) for each in chosen]
        assert costs == sorted(costs)

    def test_room_is_kept_for_the_untried(self) -> None:
        tried = [candidate(number, 10.0) for number in range(100)]
        untried = {f"uid-{number}" for number in range(100, 150)}
        chosen = shortlist([*tried, *(candidate(number) for number in range(100, 150))])
        assert sum(each.uid in untried for each in chosen) == UNTRIED_MIN

    def test_the_untried_are_expected_to_be_as_fast_as_the_others(self) -> None:
        chosen = {each.name: each.latency_ms for each in shortlist([candidate(1, 10), candidate(2, 30), candidate(3)])}
        assert chosen["a-3"] == 20.0

    def test_the_best_of_many_stay(self) -> None:
        candidates = [candidate(number, 1.0 + number) for number in range(200)]
        random.Random(1).shuffle(candidates)
        assert [each.name for each in shortlist(candidates)] == [f"a-{number}" for number in range(CANDIDATES_MAX)]


class TestChoose:
    @given(CANDIDATES, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
    def test_it_takes_one_that_is_there(self, candidates: list[Candidate], one: float, two: float) -> None:
        chosen = choose(candidates, {}, (one, two))
        assert (chosen in candidates) if candidates else chosen is None

    def test_of_two_it_takes_the_cheaper(self) -> None:
        slow, fast = candidate(1, 100), candidate(2, 10)
        for rolls in ((0.0, 0.0), (0.9, 0.0), (0.0, 0.9), (0.9, 0.9)):
            assert choose([slow, fast], {}, rolls) is fast

    def test_calls_under_way_here_count_at_once(self) -> None:
        one, other = candidate(1, 10), candidate(2, 10)
        assert choose([one, other], {"uid-1": 1}, (0.0, 0.0)) is other

    def test_who_has_refused_is_avoided(self) -> None:
        one, other = candidate(1), candidate(2)
        assert choose([one, other], {}, (0.0, 0.0), avoid="uid-1") is other
        assert choose([one], {}, (0.0, 0.0), avoid="uid-1") is None

    def test_equal_agents_share_the_calls(self) -> None:
        dice = random.Random(7)
        candidates = [candidate(number) for number in range(8)]
        in_flight: Counter[str] = Counter()
        for _ in range(800):
            chosen = choose(candidates, in_flight, (dice.random(), dice.random()))
            assert chosen is not None
            in_flight[chosen.uid] += 1
        assert max(in_flight.values()) - min(in_flight.values()) <= 5  # at random it would be some 30


def test_a_target_says_what_it_is() -> None:
    assert str(Target("shop", capability="search", selector="tier=gold")) == "capability search in shop with tier=gold"
    assert str(Target("shop", "cart")) == "agent cart in shop"
