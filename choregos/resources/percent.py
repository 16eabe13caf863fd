"""Shares of a whole: `70%`, and fields that take a count or a share, as a Deployment's `maxSurge` does."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PERCENT = re.compile(r"([0-9]{1,3})%")

ROLLOUT_DEFAULT = "25%"


def parse_percent(value: str | int) -> int:
    """The number before the sign; a bare number is a percentage too.

    Raises:
        ValueError: it is no whole percentage from 0 to 100.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        match = _PERCENT.fullmatch(str(value).strip())
        if match is None:
            raise ValueError(f"expected a percentage from 0% to 100%, found {value!r}")
        number = int(match[1])
    if not 0 <= number <= 100:
        raise ValueError(f"expected a percentage from 0% to 100%, found {value!r}")
    return number


def canonical_percent(value: str | int) -> str:
    """`70%`.

    Raises:
        ValueError: as `parse_percent`.
    """
    return f"{parse_percent(value)}%"


def canonical_count_or_percent(value: str | int) -> str | int:
    """A count of at least 0, or a percentage.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"expected a count of at least 0 or a percentage, found {value}")
        return value
    return canonical_percent(value)


def scaled(value: str | int, total: int, *, round_up: bool) -> int:
    """How many of `total` a count or percentage means."""
    if isinstance(value, int):
        return value
    product = parse_percent(value) * total
    return -(-product // 100) if round_up else product // 100


def rollout_bounds(strategy: Mapping[str, str | int], replicas: int) -> tuple[int, int]:
    """(most extra agents, most missing agents) during a rolling replacement of `replicas` agents.

    As a Deployment: the surge is rounded up, what may be missing down, and if both come to 0 one may be missing, or
    nothing could ever move.
    """
    surge = scaled(strategy.get("maxSurge", ROLLOUT_DEFAULT), replicas, round_up=True)
    missing = scaled(strategy.get("maxUnavailable", ROLLOUT_DEFAULT), replicas, round_up=False)
    return (surge, missing) if surge or missing else (0, 1)
