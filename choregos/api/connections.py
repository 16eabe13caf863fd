"""A client's connection: HTTP/1.1 and WebSockets as uvicorn has them, within bounds.

Invariant: what a client can have the server keep, and for how long, is bounded before anybody knows who it is; the
certificate of the connection is in the scope of each of its requests.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from uvicorn.server import ServerState
from wsproto import events

from choregos.api.access.authenticators import PEER

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""Of one WebSocket message; more closes the connection."""

FAREWELL_S = 0.2
"""How long an idle connection may take to close: time enough to send what is left of its last response."""

HEAD_BYTES_MAX = 64 * 1024
"""Of a request's first line and headers: uvicorn keeps all of them, and whose they are is not known before they end. As
many may come in a row that are of no body, such as trailers, which nobody reads."""

HEADERS_MAX = 200
"""Of a request: each takes memory besides what is in it, for as long as the request lasts, which may be a watch."""

HEAD_S = 30.0
"""How long a client may take to send a head, from the end of the handshake or from its first byte."""

REST_S = 5.0
"""How long the rest of a request may take that has its answer already; a client may read it only when all is sent."""

KEEP_ALIVE_S = 75
"""How long a connection stays open between two requests, whatever comes that begins none."""

PIPELINED_MAX = 2
"""Requests of one connection that wait for the answer to the one before. They are kept as long as that lasts."""

STALL_S = 30.0
"""How long a client may take nothing of what waits for it: some 64 KiB, or what is left."""

DESCRIPTORS_LEFT = 64
"""With fewer left the log says so, once in `WARNING_PERIOD_S`."""

WARNING_PERIOD_S = 60.0

_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

log = logging.getLogger(__name__)


class _TooManyHeaders(Exception):
    """Ends the reading of a head."""


class HttpProtocol(HttpToolsProtocol):
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

    def __init__(self, config: uvicorn.Config, server_state: ServerState, descriptors: Descriptors) -> None:
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
            self._refuse_head()

    def send_400_response(self, msg: str) -> None:
        if self._in_head and len(self.headers) > HEADERS_MAX:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def _refuse_head(self) -> None:
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
            if len(self.headers) > HEADERS_MAX:
                raise _TooManyHeaders

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


class WebSocketProtocol(WSProtocol):
    """A WebSocket that began as a request of `HttpProtocol`; knows the same certificate."""

    async def run_asgi(self) -> None:
        self.scope[PEER] = self.transport.get_extra_info("peercert")  # type: ignore[literal-required]
        await super().run_asgi()

    def handle_ping(self, event: events.Ping) -> None:
        # Each is answered, and one who never reads the answers could have them pile up.
        if self.transport.get_write_buffer_size() > MESSAGE_BYTES_MAX:
            self.transport.abort()
        else:
            super().handle_ping(event)


class Descriptors:
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
