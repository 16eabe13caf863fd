"""The only place that reads a clock.

Decisions take the time as an argument; effects get a `Clock` from the composition root, so that a simulation
can hand them one of its own (`choregos.testing.SimClock`). Wall time is for people and for records; every
duration, lease and deadline is measured with the monotonic clock, which no administrator can set back.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC; may jump."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


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
