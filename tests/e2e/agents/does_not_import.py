"""A module that cannot be imported."""

from __future__ import annotations


def read_setting() -> float:
    return 1 / 0


SETTING = read_setting()
