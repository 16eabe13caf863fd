"""Requests to one API server: TLS with the kubeconfig's certificates, answers as JSON, failures as our errors.

httpcore carries them over a few connections that it keeps. A GET that got no answer is sent once more: the server may
have closed a kept connection just then. Repeats nothing else: who asks knows whether that is safe.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import httpcore
import msgspec

from choregos.client.statuses import error_of_status
from choregos.foundation.errors import (
    ChoregosError,
    DeadlineExceeded,
    Invalid,
    Permanent,
    Temporary,
    TooLarge,
    Unauthenticated,
)
from choregos.foundation.timeout import timeout
from choregos.security.kubeconfig import ApiAccess

if TYPE_CHECKING:
    # Only who opens a WebSocket pays for its protocol.
    from choregos.client.sockets import ClientSocket

JSON = "application/json"
CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0
SILENCE_S_MAX = 150.0
"""A watch that says nothing for so long is given up: servers send a bookmark every minute."""

CONNECTIONS_MAX = 100
IDLE_MAX = 16
"""Connections kept for later; more are closed after use."""

Query = Mapping[str, str]


class Connection:
    """Requests to one API server.

    Raises:
        Invalid: the kubeconfig's address or certificates cannot be used.
    """

    def __init__(self, access: ApiAccess) -> None:
        self._server = access.server
        self._url = _split(access.server)
        self._headers = {"Host": self._url.netloc.rpartition("@")[2], "User-Agent": "choregos"}
        self._token = _Token(access.token, access.token_file)
        self._extensions: dict[str, Any] = {"timeout": {"connect": CONNECT_TIMEOUT_S}}
        if access.server_name:
            self._extensions["sni_hostname"] = access.server_name
        tls = _tls_context(access)
        self._pool = httpcore.AsyncConnectionPool(
            tls, max_connections=CONNECTIONS_MAX, max_keepalive_connections=IDLE_MAX
        )
        # Kept by nobody: a server that refuses a handshake closes the connection after its answer.
        self._sockets = httpcore.AsyncConnectionPool(tls, max_connections=CONNECTIONS_MAX, max_keepalive_connections=0)

    @property
    def server(self) -> str:
        return self._server

    async def close(self) -> None:
        """Closes every connection, those in use too."""
        await self._pool.aclose()
        await self._sockets.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Any:
        """The decoded answer.

        Raises:
            ChoregosError: the server's refusal (`statuses.error_of_status`); `Temporary` if it cannot be reached,
                `DeadlineExceeded` if it does not answer in `timeout_s` seconds; `Invalid` if the body is no JSON.
        """
        headers = {"Accept": accept}
        content = b""
        if body is not None:
            content = _encode(body)
            headers |= {"Content-Type": content_type, "Content-Length": str(len(content))}
        request = self._request(method, path, query or {}, headers, content)
        try:
            async with timeout(timeout_s), self._exchange(request) as response:
                answer = await response.aread()
        except TimeoutError as error:
            raise DeadlineExceeded(f"the API server {self._server} did not answer within {timeout_s:g} s") from error
        if response.status >= 400:
            refusal = _refusal(response.status, answer)
            if isinstance(refusal, TooLarge):
                raise TooLarge(f"{refusal}; this one has {len(content)} bytes")
            raise refusal
        return _decode(answer)

    async def lines(
        self, path: str, query: Query, *, accept: str = JSON, silence_s_max: float | None
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a streamed answer without their ends, until the server ends it.

        Args:
            silence_s_max: raise `DeadlineExceeded` when nothing has come for so long; None: wait for ever.
        """
        request = self._request("GET", path, query, {"Accept": accept})
        async with self._exchange(request) as response:
            if response.status >= 400:
                raise _refusal(response.status, await response.aread())
            rest = b""
            chunks = response.aiter_stream()
            while (chunk := await self._next(chunks, silence_s_max)) is not None:
                *complete, rest = (rest + chunk).split(b"\n")
                for line in complete:
                    yield line
            if rest:
                yield rest

    @asynccontextmanager
    async def socket(self, path: str, query: Query, protocol: str) -> AsyncIterator[ClientSocket]:
        """A WebSocket that speaks this subprotocol, for as long as the context lasts. Raises: as `request`."""
        from choregos.client.sockets import ClientSocket, handshake

        request = self._request("GET", path, query, handshake(protocol))
        async with self._exchange(request, self._sockets) as response:
            if response.status >= 400:
                raise _refusal(response.status, await response.aread())
            if response.status != 101:
                raise Permanent(f"the API server {self._server} answers a WebSocket's handshake with {response.status}")
            yield ClientSocket(response.extensions["network_stream"])

    async def _next(self, chunks: AsyncIterator[bytes], silence_s_max: float | None) -> bytes | None:
        try:
            async with timeout(silence_s_max):
                return await anext(chunks, None)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the API server {self._server} fell silent for {silence_s_max:g} s") from error

    def _request(
        self, method: str, path: str, query: Query, headers: Mapping[str, str], content: bytes = b""
    ) -> httpcore.Request:
        target = quote(self._url.path.rstrip("/") + path)
        if query:
            target += "?" + urlencode(query)
        url = httpcore.URL(scheme=self._url.scheme, host=self._url.hostname or "", port=self._url.port, target=target)
        sent = {**self._headers, **self._token.header(), **headers}
        lines = [(name.encode(), value.encode()) for name, value in sent.items()]
        return httpcore.Request(method, url, headers=lines, content=content, extensions=self._extensions)

    @asynccontextmanager
    async def _exchange(
        self, request: httpcore.Request, pool: httpcore.AsyncConnectionPool | None = None
    ) -> AsyncIterator[httpcore.Response]:
        """Sends a request; the context is entered when the answer's status is known. Errors are ours."""
        with self._translated():
            response = await self._answer(request, pool or self._pool)
            try:
                yield response
            finally:
                await response.aclose()

    async def _answer(self, request: httpcore.Request, pool: httpcore.AsyncConnectionPool) -> httpcore.Response:
        if request.method == b"GET":
            with contextlib.suppress(httpcore.ReadError, httpcore.RemoteProtocolError):
                return await pool.handle_async_request(request)
        try:
            return await pool.handle_async_request(request)
        except (httpcore.ReadError, httpcore.RemoteProtocolError) as error:
            # A TLS 1.3 server that refuses a certificate may also just close: the handshake is over for the client.
            raise Temporary(
                f"the API server {self._server} gave no answer: {_reason(error)}. "
                "It is ending, or does not take the certificate shown to it."
            ) from error

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns errors of the network into ours."""
        try:
            yield
        except httpcore.TimeoutException as error:
            raise Temporary(f"the API server {self._server} takes no connections") from error
        except (ssl.SSLError, httpcore.ConnectError) as error:
            refusal = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
            if refusal is not None:
                raise _tls_failure(self._server, refusal) from error
            raise Temporary(f"the API server {self._server} cannot be reached: {_reason(error)}") from error
        except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
            raise Temporary(f"the API server {self._server} broke off its answer: {_reason(error)}") from error
        except httpcore.LocalProtocolError as error:
            raise Invalid(f"the request cannot be sent: {error}") from error


class _Token:
    """The bearer token, as it is in its file now: short-lived ones are renewed there."""

    def __init__(self, token: str, file: Path | None) -> None:
        self._text = token
        self._file = file
        self._read_at = 0

    def header(self) -> dict[str, str]:
        if self._file is not None:
            # A file that is being replaced just now leaves the last token, which is good for a while.
            with contextlib.suppress(OSError):
                changed_at = self._file.stat().st_mtime_ns
                if changed_at != self._read_at:
                    self._text, self._read_at = self._file.read_text().strip(), changed_at
        return {"Authorization": f"Bearer {self._text}"} if self._text else {}


def _split(server: str) -> SplitResult:
    try:
        url = urlsplit(server)
        usable = url.scheme in ("http", "https") and url.hostname and server.isascii() and url.port != 0
    except ValueError as error:
        raise Invalid(f"{server!r} is no address of an API server: {error}") from error
    if not usable:
        raise Invalid(f"{server!r} is no address of an API server: one such as https://127.0.0.1:7443 was expected")
    return url


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was made of: httpcore hands on the first cause as the argument."""
    while error is not None:
        yield error
        inner = error.args[0] if error.args else None
        error = inner if isinstance(inner, BaseException) else error.__cause__


def _reason(error: BaseException) -> str:
    causes = list(_causes(error))
    system = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno), None)
    if system is not None and system.errno is not None:
        # asyncio puts the address in `strerror`; the number says what happened, unless it is one of name resolution.
        return (os.strerror(system.errno) if system.errno > 0 else str(system.strerror)).lower()
    return str(causes[-1]).rstrip(".") or "the connection was closed"


def _tls_context(access: ApiAccess) -> ssl.SSLContext | None:
    if not access.server.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cadata=access.authority_pem.decode() or None)
        if access.certificate_pem:
            # OpenSSL reads certificates of its own from files only; this one is private and gone at once.
            with tempfile.NamedTemporaryFile(suffix=".pem") as file:
                file.write(access.certificate_pem + b"\n" + access.key_pem)
                file.flush()
                context.load_cert_chain(file.name)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid(f"the certificates of the kubeconfig cannot be used: {error}") from error
    return context


def _tls_failure(server: str, error: ssl.SSLError) -> ChoregosError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Permanent(
            f"the server at {server} is not the one of this kubeconfig: {error.verify_message}. "
            "It may have been set up anew: use the kubeconfig of its data directory."
        )
    if "ALERT" in (error.reason or ""):
        return Unauthenticated(
            f"the API server {server} does not take the certificate of this kubeconfig: {error.reason}"
        )
    return Temporary(f"the API server {server} cannot be reached: {error.reason or error}")


def _refusal(code: int, content: bytes) -> ChoregosError:
    try:
        status = msgspec.json.decode(content)
    except msgspec.DecodeError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {"message": content.decode(errors="replace").strip()[:2000]}
    return error_of_status({"code": code, **status})


def _encode(body: Any) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"the request cannot be sent as JSON: {error}") from error


def _decode(content: bytes) -> Any:
    if not content:
        return None
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise Permanent(f"the server's answer is no JSON: {error}") from error
