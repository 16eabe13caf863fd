"""A module that cannot be imported."""

from __future__ import annotations


def _divide() -> float:
    return 1 / 0


RESULT = _divide()
