"""The words of a command line as values: `agents/web-0`, `5m`. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from choregos.foundation.errors import ChoregosError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

TARGETS = "expected KIND NAME …, or KIND/NAME …"


class UsageError(ChoregosError):
    """The command line is wrong: correct it; `--help` tells how."""


def parse_targets(words: Sequence[str]) -> list[tuple[str, str]]:
    """Kind and name of each object meant; the name is empty where all of a kind are.

    Raises:
        UsageError: both forms are mixed, or a part is missing.
    """
    if not words:
        raise UsageError(TARGETS)
    if any("/" in word for word in words):
        pairs = [word.partition("/")[::2] for word in words]
        if not all(kind and name for kind, name in pairs):
            raise UsageError(f"cannot tell what {' '.join(words)!r} means: {TARGETS}")
        return [(kind, name) for kind, name in pairs]
    kinds, names = words[0], words[1:]
    return [(kinds, name) for name in names] or [(kinds, "")]


def parse_duration(text: str) -> float:
    """Seconds of `30s`, `5m`, `1h`, `250ms`; a bare number is seconds.

    Raises:
        UsageError: it is no duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no duration; write it as 30s, 5m or 1h")
    return float(match[1]) * _UNIT_S[match[2] or "s"]


def age(seconds: float) -> str:
    """`42s`, `5m`, `3h20m`, `2d`: as kubectl prints ages."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{days}d"
