"""One kept connection of HTTP/1.1 over TLS, as little as a load generator needs: what it costs counts as the server's.

One request at a time; the answer's body is read and not decoded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httptools

READ_BYTES = 256 * 1024


class RequestFailed(Exception):
    """The server refused, or went away."""


def client_tls(authority: Path, identity: Path) -> ssl.SSLContext:
    """TLS to servers with a certificate of `authority`, as the client whose certificate and key `identity` holds."""
    tls = ssl.create_default_context(cafile=authority)
    tls.load_cert_chain(identity)
    return tls


class HttpConnection:
    """Made by `open_connection`. Takes the parser's callbacks too."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host
        self._parts: list[bytes] = []
        self._complete = False

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._complete = True

    async def send(
        self, method: str, target: str, *, body: bytes = b"", accept: str = "application/json", sent: str = ""
    ) -> bytes:
        """The answer's body.

        Args:
            target: path and query, quoted.
            sent: the body's media type; empty: JSON.

        Raises:
            RequestFailed: the answer is none of success.
        """
        head = f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {accept}\r\n"
        if body:
            head += f"Content-Type: {sent or 'application/json'}\r\nContent-Length: {len(body)}\r\n"
        self._parts, self._complete = [], False
        parser = httptools.HttpResponseParser(self)
        self._writer.write(head.encode() + b"\r\n" + body)
        while not self._complete:
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise RequestFailed(f"{method} {target}: the server closed the connection")
            parser.feed_data(data)
        content = b"".join(self._parts)
        if parser.get_status_code() >= 300:
            raise RequestFailed(f"{method} {target}: {parser.get_status_code()} {content[:3000]!r}")
        return content


@asynccontextmanager
async def open_connection(url: str, tls: ssl.SSLContext) -> AsyncIterator[HttpConnection]:
    """To the server of `url`, for as long as the context lasts."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, ssl=tls, limit=4 * READ_BYTES)
    try:
        yield HttpConnection(reader, writer, where.netloc)
    finally:
        writer.transport.abort()
