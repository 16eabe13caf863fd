"""Answers that stay open, such as watches and followed logs, and how they end with the server.

Invariant: after `close` no stream waits any more; each ends by itself after its current line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class OpenStreams:
    """All waits of all open streams of one server."""

    def __init__(self) -> None:
        self._waits: set[asyncio.Timeout] = set()
        self.closing = False

    async def wait(self, event: Awaitable[T], timeout_s: float | None) -> T:
        """The result of `event`.

        Raises:
            TimeoutError: there was none within `timeout_s` seconds, or the server is `closing`.
        """
        async with asyncio.timeout(0 if self.closing else timeout_s) as scope:
            self._waits.add(scope)
            try:
                return await event
            finally:
                self._waits.discard(scope)

    def close(self) -> None:
        """Ends every wait, now and in future."""
        self.closing = True
        now = asyncio.get_running_loop().time()
        for scope in self._waits:
            scope.reschedule(now)
