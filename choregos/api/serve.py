"""The API server on a TLS socket: uvicorn, with the client's certificate in the ASGI scope and a quick, clean end.

Invariant: the handshake refuses a certificate that is not of the cluster's CA; a client that shows none is for
`access.gate` to judge. When `serve` is left, watches
have ended with the last complete line and no connection is open any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from uvicorn.server import ServerState
from wsproto import events

from choregos.api.access.authenticators import PEER
from choregos.api.server import ApiServer
from choregos.foundation.errors import Permanent
from choregos.foundation.tasks import Tasks

SHUTDOWN_S = 3
"""Requests that are still running so long after the end was asked for are cancelled."""

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""Of one WebSocket message; more closes the connection."""

FAREWELL_S = 0.2
"""How long an idle connection may take to close: time enough to send what is left of its last response."""


log = logging.getLogger(__name__)


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


HEAD_BYTES_MAX = 64 * 1024
"""Of a request's first line and headers: uvicorn keeps all of them, and whose they are is not known before they end. As
many may come in a row that are of no body, such as trailers, which nobody reads."""

HEAD_S = 30.0
"""How long a client may take to send a head, from the end of the handshake or from its first byte."""

REST_S = 5.0
"""How long the rest of a request may take that has its answer already; a client may read it only when all is sent."""

KEEP_ALIVE_S = 75
"""How long a connection stays open between two requests, whatever comes that begins none."""

PIPELINED_MAX = 100
"""Requests of one connection that wait for the answer to the one before."""

STALL_S = 30.0
"""How long a client may take nothing of what waits for it: some 64 KiB, or what is left."""

HANDSHAKE_S = 10.0
"""How long the TLS handshake may take, from the connection; asyncio's own bound is 60 s."""

DESCRIPTORS_LEFT = 64
"""With fewer left the log says so, once in `WARNING_PERIOD_S`."""

WARNING_PERIOD_S = 60.0

_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1, with the verified certificate of the connection in the scope of each of its requests.

    Bounds what a client can have the server keep, and for how long, whoever it is. Invariant: the next head and the
    rest of a request that was answered are awaited for a limited time, whatever comes instead of them.
    """

    _certificate: Any = None
    _in_head = False
    _body_due = False  # of the newest request
    _idle_bytes = 0  # since something of a request began, went on or ended
    _deadline: asyncio.TimerHandle | None = None  # None while a request is worked on
    _stall: asyncio.TimerHandle | None = None  # while something waits for the client to take it
    _answered: Any = None  # the cycle of that request; others may have come after it

    def __init__(self, config: uvicorn.Config, server_state: ServerState, descriptors: _Descriptors) -> None:
        super().__init__(config, server_state, {})
        self._descriptors = descriptors

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._descriptors.taken(transport)
        self._certificate = transport.get_extra_info("peercert")
        # What the system and the TCP transport do not take waits with who sends it, not in memory nobody counts.
        transport.set_write_buffer_limits(high=1, low=0)
        self._close_after(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._keep_open()
        self._no_stall()
        if self._answered is not None:  # uvicorn tells only the newest
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            if self._in_head and (self.cycle is None or self.cycle.response_complete):
                self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[PEER] = self._certificate  # type: ignore[literal-required]
        self._idle_bytes = 0
        self._in_head = True
        self._close_after(HEAD_S)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._idle_bytes = 0
        self._in_head = False
        self._body_due = True
        self._keep_open()
        super().on_headers_complete()
        if len(self.pipeline) > PIPELINED_MAX:
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle_bytes = 0
        self._body_due = False
        if self._deadline is not None:
            self._close_after(self.timeout_keep_alive)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None and self._deadline is None:
            # uvicorn would forget its timer at the next byte, which may be none of a request.
            self._deadline, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
            if self._body_due:
                self._close_after(REST_S)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._no_stall()
        self._stall = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._no_stall()
        super().resume_writing()

    def _no_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _close_after(self, seconds: float) -> None:
        self._keep_open()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _keep_open(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: such a request is answered as any other, with what it may do instead."""

    def shutdown(self) -> None:
        super().shutdown()
        if self.cycle is None or self.cycle.response_complete:
            # A client that keeps an idle connection does not read from it, so it never answers the TLS farewell.
            self.loop.call_later(FAREWELL_S, self.transport.abort)


class _WebSocket(WSProtocol):
    """A WebSocket that began as a request of `_Protocol`; knows the same certificate."""

    async def run_asgi(self) -> None:
        self.scope[PEER] = self.transport.get_extra_info("peercert")  # type: ignore[literal-required]
        await super().run_asgi()

    def handle_ping(self, event: events.Ping) -> None:
        # Each is answered, and one who never reads the answers could have them pile up.
        if self.transport.get_write_buffer_size() > MESSAGE_BYTES_MAX:
            self.transport.abort()
        else:
            super().handle_ping(event)


class _Descriptors:
    """Warns before there are none left for connections: those beyond are closed by libuv, which tells nobody."""

    def __init__(self) -> None:
        self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._quiet_until_s = 0.0

    def taken(self, transport: asyncio.BaseTransport) -> None:
        """By a new connection. The system gives the lowest number that is free, so all below are taken too."""
        number, now_s = transport.get_extra_info("socket").fileno(), asyncio.get_running_loop().time()
        if 0 <= self._limit - DESCRIPTORS_LEFT < number and now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + WARNING_PERIOD_S
            log.warning("almost all of %d descriptors are taken: soon no connection will be accepted", self._limit)


class _Server(uvicorn.Server):
    """Leaves signals to the composition root, and ends watches before it waits for them."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], Any]) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self.servers: list[asyncio.Server] = []
        self.accepting = asyncio.Event()
        self._descriptors = _Descriptors()

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
        return _Protocol(self.config, self.server_state, self._descriptors)

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
            http=_Protocol,
            ws=_WebSocket,
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
