"""The only place that reads a clock.

Decisions take the time as an argument; effects get a `Clock` from the composition root, so that a simulation
can hand them one of its own (`choregos.testing.SimClock`). Wall time is for people and for records; every
duration, lease and deadline is measured with the monotonic clock, which no administrator can set back.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from choregos.foundation.timestamp import parse_rfc3339, rfc3339, rfc3339_micro

__all__ = ["Clock", "SystemClock", "parse_rfc3339", "rfc3339", "rfc3339_micro"]


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
