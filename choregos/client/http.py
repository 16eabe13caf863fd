"""HTTP/1.1 to one server over a few connections that are kept: as little as an API client needs.

httptools parses, asyncio carries. A general client library costs a quarter of a second of imports, which is most of
what a short command takes (`docs/cli.md` has the figures). No proxies, no redirects, no cookies, no compression.

Invariants: an exchange has a connection for itself until its answer is read to the end; what was not read to the end
is closed, never reused. A request is sent twice only if it is a GET and the server closed the kept connection first.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

import httptools

READ_BYTES = 256 * 1024
CONNECTIONS_MAX = 100
IDLE_MAX = 16
"""Connections kept for later; more are closed after use."""


class Disconnected(ConnectionError):
    """The server closed the connection before its answer was complete."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `path` is not quoted yet."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | None = None

    def encode(self, host: str, prefix: str) -> bytes:
        target = quote(prefix + self.path)
        if self.query:
            target += "?" + urlencode(self.query)
        lines = [f"{self.method} {target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + (self.body or b"")


class Exchange:
    """One answer while it comes in; also takes the parser's callbacks."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: deque[bytes] = deque()
        self._headers_complete = False
        self.status = 0
        self.complete = False
        self.keep_alive = False

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._headers_complete = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive()

    async def begin(self) -> None:
        """Returns when the status is known."""
        while not self._headers_complete:
            await self._feed()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body in the pieces it comes in."""
        while True:
            while self._chunks:
                yield self._chunks.popleft()
            if self.complete:
                return
            await self._feed()

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def _feed(self) -> None:
        data = await self._reader.read(READ_BYTES)
        if not data:
            # A TLS 1.3 server that refuses a certificate may also just close: the handshake is over for the client.
            if self._headers_complete:
                raise Disconnected("it closed the connection in the middle of its answer")
            raise Disconnected("it closed the connection; it is ending, or does not take the certificate shown to it")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise Disconnected(f"the server does not speak HTTP: {error}") from error


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Http:
    """Connections to one server.

    Args:
        server: `https://host:port`, with an optional path in front of every other.
        tls: None for plain `http`.
        server_name: name expected in the server's certificate; empty: the host.

    Raises:
        ValueError: `server` is no such URL.
    """

    def __init__(self, server: str, tls: ssl.SSLContext | None, server_name: str = "") -> None:
        url = urlsplit(server)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("an address such as https://127.0.0.1:7443 was expected")
        self._host = url.hostname
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._authority = url.netloc.rpartition("@")[2]
        self._prefix = url.path.rstrip("/")
        self._tls = tls if url.scheme == "https" else None
        self._server_name = server_name
        self._idle: deque[_Streams] = deque()
        # Aborted, and waited for when all ends; those that fall out of it have long been closed.
        self._dropped: deque[asyncio.StreamWriter] = deque(maxlen=CONNECTIONS_MAX)
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)

    @asynccontextmanager
    async def exchange(self, request: Request, *, connect_timeout_s: float) -> AsyncIterator[Exchange]:
        """Sends a request; the context is entered when the answer's status is known.

        Raises:
            OSError: the server cannot be reached, or goes away; `ssl.SSLError` and `Disconnected` among them.
            TimeoutError: it takes no connection in `connect_timeout_s` seconds.
        """
        encoded = request.encode(self._authority, self._prefix)
        async with self._free:
            streams, exchange = await self._send(encoded, request.method == "GET", connect_timeout_s)
            try:
                yield exchange
            finally:
                self._release(streams, reusable=exchange.complete and exchange.keep_alive)

    async def _send(self, encoded: bytes, repeatable: bool, connect_timeout_s: float) -> tuple[_Streams, Exchange]:
        """Over a kept connection if there is one that still works, else over a new one."""
        while True:
            kept = self._take_idle()
            streams = kept or await self._connect(connect_timeout_s)
            exchange = Exchange(streams[0])
            try:
                streams[1].write(encoded)
                await streams[1].drain()
                await exchange.begin()
            except ConnectionError:
                self._release(streams, reusable=False)
                if kept is None or not repeatable:
                    raise
                continue
            except BaseException:
                self._release(streams, reusable=False)
                raise
            return streams, exchange

    def _take_idle(self) -> _Streams | None:
        while self._idle:
            # The last one used is the least likely to have been closed by the server.
            streams = self._idle.pop()
            if not streams[0].at_eof() and not streams[1].is_closing():
                return streams
            self._drop(streams)
        return None

    async def _connect(self, timeout_s: float) -> _Streams:
        name = (self._server_name or self._host) if self._tls else None
        async with asyncio.timeout(timeout_s):
            return await asyncio.open_connection(self._host, self._port, ssl=self._tls, server_hostname=name)

    def _release(self, streams: _Streams, *, reusable: bool) -> None:
        if reusable and len(self._idle) < IDLE_MAX:
            self._idle.append(streams)
        else:
            self._drop(streams)

    def _drop(self, streams: _Streams) -> None:
        # Not `close`: that waits for the server's half of the TLS good-bye, which a stuck server never sends.
        streams[1].transport.abort()
        self._dropped.append(streams[1])

    async def close(self) -> None:
        """Closes the connections that are kept; those in use end with their exchange."""
        while self._idle:
            self._drop(self._idle.pop())
        while self._dropped:
            with contextlib.suppress(OSError):
                await self._dropped.pop().wait_closed()
