"""Bodies of requests: how large they may be, how long they may take, and how much of them one flow may have kept here.

A body is read before its request takes a seat (`fairness`): who sends it sets the pace, and keeps nobody waiting.
Invariant: what is kept of a flow's bodies, those that are under way and those whose requests wait in line or are worked
on, never exceeds the limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from choregos.api.rules.status import Refusal, size, too_many_requests
from choregos.foundation.errors import TooLarge
from choregos.foundation.timeout import timeout

COUNTED_BYTES_MIN = 16 * 1024
"""As how many a smaller body counts: a request costs something besides its body."""


class Bodies:
    """The bodies of one server.

    Args:
        bytes_max: of one body.
        flow_bytes_max: of all bodies of a flow at a time.
        read_s: how long one may take to come.
    """

    def __init__(self, bytes_max: int, flow_bytes_max: int, read_s: float) -> None:
        self._bytes_max = bytes_max
        self._flow_bytes_max = flow_bytes_max
        self._read_s = read_s
        self._flows: Counter[str] = Counter()

    @asynccontextmanager
    async def read(self, flow: str, request: Request) -> AsyncIterator[bytes]:
        """The whole body, which is counted until the context is left.

        Raises:
            TooLarge: it has more than `bytes_max` bytes; what follows is not read.
            Refusal: 408, it took too long; 429, the flow has too much under way.
            ClientDisconnect: the client went away before it was complete.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._bytes_max:
            raise self._too_large()
        chunks: list[bytes] = []
        received = counted = 0
        try:
            counted += self._count(flow, COUNTED_BYTES_MIN)
            try:
                async with timeout(self._read_s):
                    async for chunk in request.stream():
                        received += len(chunk)
                        if received > self._bytes_max:
                            raise self._too_large()
                        counted += self._count(flow, max(0, received - counted))
                        chunks.append(chunk)
            except TimeoutError as error:
                why = f"the request's body did not come within {self._read_s:g} s"
                raise Refusal(408, "Timeout", why) from error
            yield b"".join(chunks)
        finally:
            self._flows[flow] -= counted
            if not self._flows[flow]:
                del self._flows[flow]

    def _count(self, flow: str, more: int) -> int:
        if self._flows[flow] + more > self._flow_bytes_max:
            raise too_many_requests(f"{flow} has {size(self._flow_bytes_max)} of requests under way")
        self._flows[flow] += more
        return more

    def _too_large(self) -> TooLarge:
        return TooLarge(f"Request entity too large: limit is {self._bytes_max}")
