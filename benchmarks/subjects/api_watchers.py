"""A process of watchers of one collection, each with a connection of its own: when does which event arrive?

An event says when its write was sent, in nanoseconds of the machine's monotonic clock, which all processes share.
Arguments: URL, CA file, certificate and key as one file, path of the collection.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.api.http_connection import client_tls
from benchmarks.lines import Answer, serve_lines

SENT = re.compile(rb'"sent":"(\d+)"')
TAIL_BYTES = 64
"""Kept of what has been read, for a mark that is cut in two."""

ARRIVAL_TIMEOUT_S = 60.0
OPENED_AT_ONCE = 50


class Watchers:
    """All watchers of this process; their arrivals since the last question."""

    def __init__(self, url: str, tls: ssl.SSLContext, path: str) -> None:
        where = urlsplit(url)
        self._host, self._port, self._tls = where.hostname, where.port, tls
        request = f"GET {path}?watch=1&resourceVersion={{}} HTTP/1.1\r\nHost: {where.netloc}\r\n"
        self._request = request + "Accept: application/json\r\n\r\n"
        self._transports: list[asyncio.Transport] = []
        self.took_us: list[int] = []
        self.last_ns = 0
        self.expected = 0
        self.complete = asyncio.Event()
        self.closed = 0

    async def open(self, count: int, revision: str) -> None:
        """Has `count` in all, watching from a revision on; returns when each has its answer's head."""
        loop = asyncio.get_running_loop()
        while len(self._transports) < count:
            opening = [
                loop.create_connection(lambda: _Watcher(self), self._host, self._port, ssl=self._tls)
                for _ in range(min(OPENED_AT_ONCE, count - len(self._transports)))
            ]
            opened = await asyncio.gather(*opening)
            for transport, _ in opened:
                transport.write(self._request.format(revision).encode())
                self._transports.append(transport)
            await asyncio.gather(*(watcher.answered for _, watcher in opened))

    def arrived(self, sent_ns: int, now_ns: int) -> None:
        self.took_us.append((now_ns - sent_ns) // 1000)
        self.last_ns = now_ns
        if len(self.took_us) >= self.expected > 0:
            self.complete.set()

    async def collect(self, events: int) -> Answer:
        """The delays of `events` events at each watcher, fewer if they do not come in time."""
        self.expected = events * len(self._transports)
        if len(self.took_us) < self.expected:
            self.complete.clear()
            try:
                async with asyncio.timeout(ARRIVAL_TIMEOUT_S):
                    await self.complete.wait()
            except TimeoutError:
                pass
        took, self.took_us, self.expected = self.took_us, [], 0
        return {"took_us": took, "last_ns": self.last_ns, "closed": self.closed}


class _Watcher(asyncio.Protocol):
    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers
        self._rest = b""
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if not self.answered.done():
            self.answered.set_result(None)
        data, end = self._rest + data, 0
        for found in SENT.finditer(data):
            self._watchers.arrived(int(found[1]), now_ns)
            end = found.end()
        self._rest = data[max(end, len(data) - TAIL_BYTES) :]

    def connection_lost(self, _: Exception | None) -> None:
        self._watchers.closed += 1
        if not self.answered.done():
            self.answered.set_exception(ConnectionError("the server closed the connection"))


async def main() -> None:
    url, authority, identity, path = sys.argv[1:]
    watchers = Watchers(url, client_tls(Path(authority), Path(identity)), path)

    async def handle(command: Any) -> Answer:
        if "watchers" in command:
            await watchers.open(command["watchers"], command["revision"])
            return {}
        return {**await watchers.collect(command["events"]), "processor_s": time.process_time()}

    await serve_lines(handle)


if __name__ == "__main__":
    uvloop.run(main())
