"""The API server on a TLS socket: uvicorn with our `connections`, and a quick, clean end.

Invariant: the handshake refuses a certificate that is not of the cluster's CA; a client that shows none is for
`access.gate` to judge. When `serve` is left, watches have ended with the last complete line and no connection is open
any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from choregos.api.connections import KEEP_ALIVE_S, MESSAGE_BYTES_MAX, Descriptors, HttpProtocol, WebSocketProtocol
from choregos.api.server import ApiServer
from choregos.foundation.errors import Permanent
from choregos.foundation.tasks import Tasks

SHUTDOWN_S = 3
"""Requests that are still running so long after the end was asked for are cancelled."""

HANDSHAKE_S = 10.0
"""How long the TLS handshake may take, from the connection; asyncio's own bound is 60 s."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Where to listen, and as whom.

    Attributes:
        port: 0 lets the system choose.
        certificate, key: PEM files of the server's own certificate (and chain).
        client_ca: PEM file of the CA whose certificates clients present.
    """

    certificate: Path
    key: Path
    client_ca: Path
    host: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that accepts connections at `host` and `port`."""

    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


class _Server(uvicorn.Server):
    """Leaves signals to the composition root, and ends watches before it waits for them."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], Any]) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self.servers: list[asyncio.Server] = []
        self.accepting = asyncio.Event()
        self._descriptors = Descriptors()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Instead of uvicorn's, which leaves no say in how long a handshake may take."""
        for listener in sockets or ():
            server = await asyncio.get_running_loop().create_server(
                self._protocol,
                sock=listener,
                backlog=self.config.backlog,
                ssl=self.config.ssl,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
            self.servers.append(server)
        self.started = True
        self.accepting.set()

    def _protocol(self) -> asyncio.Protocol:
        return HttpProtocol(self.config, self.server_state, self._descriptors)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._on_stop()
        await super().shutdown(sockets)


@asynccontextmanager
async def serve(app: ApiServer, settings: ServeSettings) -> AsyncIterator[Serving]:
    """Serves `app` while the context is open.

    Raises:
        Permanent: the address is taken or not this machine's, or a certificate file cannot be used.
    """
    listener = _listen(settings.host, settings.port)
    with contextlib.closing(listener):
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws=WebSocketProtocol,
            ws_max_size=MESSAGE_BYTES_MAX,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # nobody stands between: whoever sent them could name any address as his own
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S,
            ssl_certfile=settings.certificate,
            ssl_context_factory=lambda *_: tls_context(settings),
        )
        server = _Server(config, app.close)
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise Permanent(
                f"cannot use {settings.certificate}, {settings.key}, {settings.client_ca}: {error}"
            ) from error
        async with Tasks() as tasks:
            running = tasks.start(server.serve(sockets=[listener]), "api server")
            running.add_done_callback(lambda _: server.accepting.set())
            await server.accepting.wait()
            try:
                yield Serving(settings.host, listener.getsockname()[1])
            finally:
                server.should_exit = True
                await running


def tls_context(settings: ServeSettings) -> ssl.SSLContext:
    """TLS 1.2 or later; a client may show a certificate of the CA, and else shows a token in each request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.certificate, settings.key)
    context.load_verify_locations(settings.client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    # Neither kubectl nor any client library comes back with one, and to make two takes as long as the handshake.
    context.num_tickets = 0
    return context


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise Permanent(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port, or stop what uses it"
        ) from error
    return listener
