"""HTTP to one API server: TLS with the kubeconfig's certificates, answers as JSON, failures as our errors.

The only module that knows httpx. Keeps connections alive and shares them; ignores proxy settings, as the server is
on this machine or in the same network. Does not repeat requests: who asks knows whether that is safe.
"""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx
import msgspec

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
"""A stream that says nothing for so long is given up: servers send a bookmark every minute."""
CONNECTIONS_MAX = 100

Query = Mapping[str, str]


class Connection:
    """Requests to one API server."""

    def __init__(self, access: ApiAccess) -> None:
        self._server = access.server
        headers = {"User-Agent": "choregos"}
        if access.token:
            headers["Authorization"] = f"Bearer {access.token}"
        self._extensions = {"sni_hostname": access.server_name} if access.server_name else {}
        self._http = httpx.AsyncClient(
            base_url=access.server,
            verify=_tls_context(access) if access.server.startswith("https:") else False,
            headers=headers,
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=None),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
            trust_env=False,
        )

    @property
    def server(self) -> str:
        return self._server

    async def close(self) -> None:
        await self._http.aclose()

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
        headers = {"Accept": accept}
        content = None
        if body is not None:
            headers["Content-Type"] = content_type
            content = msgspec.json.encode(body)
        with self._translated():
            response = await self._http.request(
                method,
                path,
                params=query,
                content=content,
                headers=headers,
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
                extensions=self._extensions,
            )
        if response.is_error:
            raise _refusal(response.status_code, response.content)
        return _decode(response.content)

    async def lines(
        self, path: str, query: Query, *, accept: str = JSON, silence_s_max: float | None
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a streamed answer without their ends, until the server ends it.

        Args:
            silence_s_max: raise `DeadlineExceeded` when nothing has come for so long; None: wait for ever.
        """
        timeout = httpx.Timeout(silence_s_max, connect=CONNECT_TIMEOUT_S, pool=None)
        with self._translated():
            async with self._http.stream(
                "GET", path, params=query, headers={"Accept": accept}, timeout=timeout, extensions=self._extensions
            ) as response:
                if response.is_error:
                    raise _refusal(response.status_code, await response.aread())
                rest = b""
                async for chunk in response.aiter_bytes():
                    *complete, rest = (rest + chunk).split(b"\n")
                    for line in complete:
                        yield line
                if rest:
                    yield rest

    @contextlib.contextmanager
    def _translated(self) -> Any:
        """Turns httpx's errors into ours."""
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise Temporary(f"the API server {self._server} does not answer") from error
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(f"the API server {self._server} took too long to answer") from error
        except httpx.TransportError as error:
            raise _unreachable(self._server, error) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Invalid(f"{self._server} is no address of an API server: {error}") from error


def _tls_context(access: ApiAccess) -> ssl.SSLContext:
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


def _unreachable(server: str, error: httpx.TransportError) -> ChoregosError:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Permanent(
            f"the server at {server} is not the one of this kubeconfig: {text.partition('] ')[2] or text}. "
            "It may have been set up anew: use the kubeconfig of its data directory."
        )
    if "ALERT" in text.upper() and "CERTIFICATE" in text.upper():
        return Unauthenticated(f"the API server {server} does not take the certificate of this kubeconfig: {text}")
    return Temporary(f"the API server {server} cannot be reached: {text or type(error).__name__}")


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
