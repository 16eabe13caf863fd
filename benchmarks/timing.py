"""How anything is timed here, ours and the peers' alike. Standard library only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

Call = Callable[[], Awaitable[object]]

PAYLOAD = b"y" * 128
"""What every echo is sent, in bytes."""


async def sequential_us(call: Call, count: int) -> list[float]:
    """How long each of `count` calls took, one after the other, in microseconds."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        took.append((time.perf_counter() - began) * 1e6)
    return took


async def together(calls: Iterable[Call], in_flight: int) -> float:
    """Calls per second when `in_flight` of them are always under way."""
    waiting, done = iter(calls), 0

    async def caller() -> None:
        nonlocal done
        for call in waiting:
            await call()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return done / (time.perf_counter() - began)


async def call_figures(call: Call, calls: int, in_flight: int) -> dict[str, object]:
    """Both views of one call: `took_us` of `calls` in a row, and `calls_per_s` of four times as many together."""
    return {
        "took_us": await sequential_us(call, calls),
        "calls_per_s": await together((call for _ in range(4 * calls)), in_flight),
    }
