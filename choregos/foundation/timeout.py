"""`timeout` and `timeout_at` as asyncio has them, also right in a task that is being cancelled.

Where something ends, its task has often been cancelled before, and what it does last is bounded in time. Until Python
3.11.3 a timeout that runs out there shows as a CancelledError that nobody sent, and skips the rest of the ending:
https://github.com/python/cpython/issues/102780. Debian 12 has 3.11.2.
"""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Self

__all__ = ["timeout", "timeout_at"]


class RepairedTimeout(asyncio.Timeout):  # type: ignore[misc]  # final, but so it stays an `asyncio.Timeout` for its users
    """Tells its own cancellation from others' by their number, as asyncio itself does since."""

    _cancelled_before = 0

    async def __aenter__(self) -> Self:
        self._cancelled_before = _cancelling()
        await super().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, traceback)
        if kind is asyncio.CancelledError and self.expired() and _cancelling() <= self._cancelled_before:
            raise TimeoutError from error


def _cancelling() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _repaired_timeout(delay: float | None) -> asyncio.Timeout:
    return RepairedTimeout(None if delay is None else asyncio.get_running_loop().time() + delay)


if sys.version_info >= (3, 11, 4):
    timeout, timeout_at = asyncio.timeout, asyncio.timeout_at
else:
    timeout, timeout_at = _repaired_timeout, RepairedTimeout
