"""Wall-clock times as text and back. Pure: nobody here reads a clock; `choregos.foundation.clock` does."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(wall_ms: int) -> str:
    """`2026-11-22T18:59:07Z`: the form of `metav1.Time`, whole seconds, UTC."""
    return datetime.fromtimestamp(wall_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(wall_ms: int) -> str:
    """`2026-11-22T18:59:07.123000Z`: the form of `metav1.MicroTime`."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time.

    Raises:
        ValueError: `text` is not such a time, or it names no offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone; end it with Z")
    return int(moment.timestamp() * 1000)
