"""Free-form JSON inside of objects: anything that JSON can say and every reader of it can hold."""

from __future__ import annotations

import math
from typing import Any

DEPTH_MAX = 64
"""Objects and lists inside of one another; deeper ones overflow the stacks of some readers."""

_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1


def json_fault(value: Any, path: str = "", depth: int = 0) -> str:
    """What is wrong with a free-form value, with its place in it; empty if nothing is."""
    if depth > DEPTH_MAX:
        return f"is nested more than {DEPTH_MAX} deep"
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str) or _scalar_fault(key):
                return f"{path}: {key!a} cannot be a key, keys are Unicode text"
            if fault := json_fault(entry, f"{path}.{key}" if path else key, depth + 1):
                return fault
        return ""
    if isinstance(value, list):
        faults = (json_fault(entry, f"{path}[{index}]", depth + 1) for index, entry in enumerate(value))
        return next((fault for fault in faults if fault), "")
    what = _scalar_fault(value)
    return f"{path}: {what}" if what else ""


def _scalar_fault(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return "" if _INTEGER_MIN <= value <= _INTEGER_MAX else "a whole number has at most 64 bits"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} is no JSON number"
    if isinstance(value, str):
        # Half of a surrogate pair can be written in JSON's escapes and is no text.
        return (
            "" if value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value) else "is no Unicode text"
        )
    return f"a {type(value).__name__} is no JSON value"
