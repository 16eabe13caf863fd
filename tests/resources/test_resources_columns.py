"""Durations as kubectl prints them: the cases of `k8s.io/apimachinery/pkg/util/duration`."""

from __future__ import annotations

import pytest

from choregos.resources.columns import duration

SECOND, MINUTE, HOUR, DAY, YEAR = 1, 60, 3600, 86_400, 365 * 86_400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (-2, "<invalid>"),
        (119, "119s"),
        (2 * MINUTE, "2m"),
        (2 * MINUTE + 12, "2m12s"),
        (10 * MINUTE + 30, "10m"),
        (179 * MINUTE, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 5 * MINUTE, "3h5m"),
        (8 * HOUR + 5 * MINUTE, "8h"),
        (47 * HOUR, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 4 * HOUR, "2d4h"),
        (8 * DAY + 4 * HOUR, "8d"),
        (2 * YEAR - DAY, "729d"),
        (2 * YEAR, "2y"),
        (2 * YEAR + 3 * DAY, "2y3d"),
        (9 * YEAR + 3 * DAY, "9y"),
    ],
)
def test_a_duration_has_about_two_significant_parts(seconds: int, text: str) -> None:
    assert duration(seconds * 1000) == text
