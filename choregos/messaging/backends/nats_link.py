"""One TCP connection to one nats-server, from its greeting to its end. It never comes back: `nats_connection` makes
the next one."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

import msgspec

from choregos.foundation.bus.address import BusAddress
from choregos.foundation.errors import Denied, Permanent, Temporary, Unavailable
from choregos.messaging.backends.nats_parser import OnMessage, Parser, ProtocolError
from choregos.messaging.backends.outflow import Outflow

PING_PERIOD_S = 15.0
"""After two unanswered pings the connection counts as lost, so a silent network is noticed within 45 s."""

UNANSWERED_MAX = 2

log = logging.getLogger(__name__)


class _Info(msgspec.Struct):
    """What matters here of the server's greeting."""

    max_payload: int = 1_048_576
    tls_required: bool = False


class NatsLink(asyncio.Protocol):
    """Made by `loop.create_connection`; use it after `await greeted`.

    Attributes:
        greeted: done when the server has accepted user and password.
        outflow: for what is sent.
        ended: set when the connection is over.
        payload_bytes_max: largest message the server takes.
        refusals: texts of the permission errors that nobody has looked at yet; the last few.
    """

    def __init__(self, address: BusAddress, name: str, on_message: OnMessage) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._name = name
        self.greeted: asyncio.Future[None] = self._loop.create_future()
        self.outflow = Outflow()
        self.ended = asyncio.Event()
        self.payload_bytes_max = 0
        self.refusals: deque[str] = deque(maxlen=16)
        self._parser = Parser(on_message, self._line)
        # Answered in order; None is our own heartbeat's.
        self._pings: deque[asyncio.Future[None] | None] = deque()
        self._beat_timer: asyncio.TimerHandle | None = None

    async def flush(self) -> None:
        """Returns when the server has seen all that was written before.

        Raises:
            Unavailable: the connection has ended.
        """
        if self.ended.is_set():
            raise Unavailable("the connection to nats-server is lost")
        pong: asyncio.Future[None] = self._loop.create_future()
        self._pings.append(pong)
        self.outflow.write(b"PING\r\n")
        await pong

    def close(self) -> None:
        if hasattr(self, "_transport"):
            self.outflow.flush()
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self.outflow.begin(transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except ProtocolError as error:
            log.warning("nats-server: %s", error)
            self._transport.abort()

    def pause_writing(self) -> None:
        self.outflow.pause()

    def resume_writing(self) -> None:
        self.outflow.resume()

    def connection_lost(self, error: Exception | None) -> None:
        self.outflow.end()
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        if not self.greeted.done():
            self.greeted.set_exception(Temporary(f"nats-server closed the connection: {error or 'no reason given'}"))
        for ping in self._pings:
            if ping is not None and not ping.done():
                ping.set_exception(Unavailable("the connection to nats-server was lost"))
        self._pings.clear()
        self.ended.set()

    # The protocol's lines

    def _line(self, verb: bytes, rest: bytes) -> None:
        if verb == b"PING":
            self.outflow.write(b"PONG\r\n")
        elif verb == b"PONG":
            self._pong()
        elif verb == b"INFO":
            self._greet(rest)
        elif verb == b"-ERR":
            self._error(rest.decode(errors="replace").strip("' "))
        elif verb != b"+OK":
            raise ProtocolError(f"unknown verb {verb[:20]!r}")

    def _greet(self, info: bytes) -> None:
        try:
            greeting = msgspec.json.decode(info, type=_Info)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"INFO cannot be read: {error}") from error
        self.payload_bytes_max = greeting.max_payload
        if self.greeted.done() or self._pings:
            return  # the server tells of changes in its cluster
        if greeting.tls_required:
            self._refuse(Permanent("nats-server demands TLS, which calls do not speak yet"))
            return
        options = {"verbose": False, "pedantic": False, "lang": "python-choregos", "name": self._name}
        options |= {"version": "1", "protocol": 1, "headers": True, "no_responders": True}
        if self._address.user:
            options |= {"user": self._address.user, "pass": self._address.password}
        self._pings.append(self.greeted)
        self.outflow.write(b"CONNECT %b\r\nPING\r\n" % msgspec.json.encode(options))
        self._beat_timer = self._loop.call_later(PING_PERIOD_S, self._beat)

    def _pong(self) -> None:
        if self._pings:
            ping = self._pings.popleft()
            if ping is not None and not ping.done():
                ping.set_result(None)

    def _error(self, text: str) -> None:
        lower = text.lower()
        if "permissions violation" in lower:
            self.refusals.append(text)
            log.warning("nats-server: %s", text)
        elif "authorization" in lower or "authentication" in lower:
            self._refuse(Denied(f"nats-server refuses user {self._address.user!r}: {text}"))
        else:
            # The server closes the connection itself where it has to.
            log.warning("nats-server: %s", text)

    def _refuse(self, error: Exception) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(error)
        self._transport.close()

    def _beat(self) -> None:
        if sum(ping is None for ping in self._pings) >= UNANSWERED_MAX:
            log.warning("nats-server is silent")
            self._transport.abort()
            return
        self._pings.append(None)
        self.outflow.write(b"PING\r\n")
        self._beat_timer = self._loop.call_later(PING_PERIOD_S, self._beat)
