"""Cells that several kinds print alike. Each is a function of the object and the wall clock in milliseconds.

Invariant: a cell never fails; an object without the part gives an empty cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from choregos.foundation.timestamp import parse_rfc3339
from choregos.resources.kind import Column, ReadOnlyObject
from choregos.resources.meta import condition

Cell = Callable[[ReadOnlyObject, int], Any]


def path(*keys: str, default: Any = "") -> Cell:
    """The value at `keys`, or `default`."""

    def cell(obj: ReadOnlyObject, now_ms: int) -> Any:
        value: Any = obj
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return default if value is None else value

    return cell


def joined(*keys: str) -> Cell:
    """A list of words at `keys`, comma-separated."""
    find = path(*keys)

    def cell(obj: ReadOnlyObject, now_ms: int) -> str:
        value = find(obj, now_ms)
        return ",".join(str(entry) for entry in value) if isinstance(value, list) else ""

    return cell


def condition_reason(type: str) -> Cell:
    return _condition_field(type, "reason")


def condition_message(type: str) -> Cell:
    return _condition_field(type, "message")


def _condition_field(type: str, key: str) -> Cell:
    def cell(obj: ReadOnlyObject, now_ms: int) -> str:
        entry = condition(obj, type)
        return "" if entry is None else str(entry.get(key, ""))

    return cell


def since(*keys: str) -> Cell:
    """How long ago the time at `keys` was: `5m`."""
    find = path(*keys)

    def cell(obj: ReadOnlyObject, now_ms: int) -> str:
        text = find(obj, now_ms)
        try:
            return duration(now_ms - parse_rfc3339(text))
        except (ValueError, TypeError):
            return "<unknown>"

    return cell


def duration(milliseconds: int) -> str:
    """`42s`, `3m12s`, `5h`, `2d4h`: about two significant parts, as `k8s.io/apimachinery/pkg/util/duration`."""
    seconds = milliseconds // 1000
    if seconds < -1:
        return "<invalid>"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


NAME = Column("Name", path("metadata", "name"), format="name", description="Name, unique in its namespace.")
AGE = Column("Age", since("metadata", "creationTimestamp"), description="Time since the object was created.")
