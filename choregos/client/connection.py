"""Requests to one API server: TLS with the kubeconfig's certificates, answers as JSON, failures as our errors.

Does not repeat what failed: who asks knows whether that is safe.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

import msgspec

from choregos.client.http import Http, Request
from choregos.client.statuses import error_of_status
from choregos.foundation.errors import (
    ChoregosError,
    DeadlineExceeded,
    Invalid,
    Permanent,
    Temporary,
    Unauthenticated,
)
from choregos.security.kubeconfig import ApiAccess

JSON = "application/json"
CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0
SILENCE_S_MAX = 150.0
"""A watch that says nothing for so long is given up: servers send a bookmark every minute."""

Query = Mapping[str, str]


class Connection:
    """Requests to one API server.

    Raises:
        Invalid: the kubeconfig's address or certificates cannot be used.
    """

    def __init__(self, access: ApiAccess) -> None:
        self._server = access.server
        self._headers = {"User-Agent": "choregos"}
        if access.token:
            self._headers["Authorization"] = f"Bearer {access.token}"
        try:
            self._http = Http(access.server, _tls_context(access), access.server_name)
        except ValueError as error:
            raise Invalid(f"{access.server!r} is no address of an API server: {error}") from error

    @property
    def server(self) -> str:
        return self._server

    async def close(self) -> None:
        await self._http.close()

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
                `DeadlineExceeded` if it does not answer in `timeout_s` seconds.
        """
        headers = {**self._headers, "Accept": accept}
        content = None
        if body is not None:
            headers["Content-Type"] = content_type
            content = msgspec.json.encode(body)
        request = Request(method, path, query or {}, headers, content)
        with self._translated():
            try:
                async with (
                    asyncio.timeout(timeout_s),
                    self._http.exchange(request, connect_timeout_s=CONNECT_TIMEOUT_S) as exchange,
                ):
                    content = await exchange.read()
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"the API server {self._server} did not answer within {timeout_s:g} s"
                ) from error
        if exchange.status >= 400:
            raise _refusal(exchange.status, content)
        return _decode(content)

    async def lines(
        self, path: str, query: Query, *, accept: str = JSON, silence_s_max: float | None
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a streamed answer without their ends, until the server ends it.

        Args:
            silence_s_max: raise `DeadlineExceeded` when nothing has come for so long; None: wait for ever.
        """
        request = Request("GET", path, query, {**self._headers, "Accept": accept})
        with self._translated():
            async with self._http.exchange(request, connect_timeout_s=CONNECT_TIMEOUT_S) as exchange:
                if exchange.status >= 400:
                    raise _refusal(exchange.status, await exchange.read())
                rest = b""
                async with contextlib.aclosing(exchange.chunks()) as chunks:
                    while True:
                        chunk = await self._next(chunks, silence_s_max)
                        if chunk is None:
                            break
                        *complete, rest = (rest + chunk).split(b"\n")
                        for line in complete:
                            yield line
                if rest:
                    yield rest

    async def _next(self, chunks: AsyncGenerator[bytes, None], silence_s_max: float | None) -> bytes | None:
        try:
            async with asyncio.timeout(silence_s_max):
                return await anext(chunks, None)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the API server {self._server} fell silent for {silence_s_max:g} s") from error

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns errors of the network into ours."""
        try:
            yield
        except ssl.SSLError as error:
            raise _tls_failure(self._server, error) from error
        except TimeoutError as error:
            raise Temporary(f"the API server {self._server} takes no connections") from error
        except OSError as error:
            # asyncio puts the address in `strerror`; the number says what happened.
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise Temporary(f"the API server {self._server} cannot be reached: {reason}") from error


def _tls_context(access: ApiAccess) -> ssl.SSLContext | None:
    if not access.server.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cadata=access.authority_pem.decode() or None)
        context.set_alpn_protocols(["http/1.1"])
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


def _decode(content: bytes) -> Any:
    if not content:
        return None
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise Permanent(f"the server's answer is no JSON: {error}") from error
