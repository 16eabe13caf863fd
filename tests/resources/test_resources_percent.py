"""Percentages, and what a rolling replacement may do with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.resources import percent


@pytest.mark.parametrize(("value", "number"), [("70%", 70), (" 70% ", 70), ("0%", 0), ("100%", 100), (70, 70)])
def test_a_percentage_is_read(value: str | int, number: int) -> None:
    assert percent.parse_percent(value) == number


@pytest.mark.parametrize("value", ["70", "101%", "-1%", "0.7", "%", "", True, 101, -1, "7O%"])
def test_what_is_no_percentage_is_refused(value: str | int) -> None:
    with pytest.raises(ValueError, match="expected a percentage"):
        percent.parse_percent(value)


@pytest.mark.parametrize(("value", "normal"), [(3, 3), (0, 0), ("25%", "25%")])
def test_a_count_or_percentage_keeps_its_type(value: str | int, normal: str | int) -> None:
    assert percent.canonical_count_or_percent(value) == normal


@pytest.mark.parametrize("value", [-1, "3", True, "many"])
def test_what_is_neither_count_nor_percentage_is_refused(value: str | int) -> None:
    with pytest.raises(ValueError, match="expected"):
        percent.canonical_count_or_percent(value)


@pytest.mark.parametrize(
    ("strategy", "replicas", "bounds"),
    [
        ({}, 4, (1, 1)),
        ({}, 10, (3, 2)),
        ({}, 1, (1, 0)),
        ({"maxSurge": 0, "maxUnavailable": "10%"}, 4, (0, 1)),
        ({"maxSurge": "100%", "maxUnavailable": 0}, 7, (7, 0)),
        ({"maxSurge": 2, "maxUnavailable": 3}, 100, (2, 3)),
        ({}, 0, (0, 1)),
    ],
)
def test_a_rollout_rounds_surge_up_and_unavailable_down(
    strategy: dict[str, str | int], replicas: int, bounds: tuple[int, int]
) -> None:
    assert percent.rollout_bounds(strategy, replicas) == bounds


SHARES = st.one_of(st.integers(0, 1000), st.integers(0, 100).map(lambda number: f"{number}%"))


@given(SHARES, SHARES, st.integers(0, 1_000_000))
def test_a_rollout_can_always_move(surge: str | int, missing: str | int, replicas: int) -> None:
    bounds = percent.rollout_bounds({"maxSurge": surge, "maxUnavailable": missing}, replicas)
    assert min(bounds) >= 0
    assert max(bounds) >= 1
