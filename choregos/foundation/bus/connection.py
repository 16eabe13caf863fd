"""The connection to nats-server that storage and messaging share: opened once per process, kept up for ever.

Invariants: a message that could not be handed to the socket before the connection was lost is never sent after it
has come back (a fenced writer must not write late), and only `close` ends a connection: whatever the server says,
it is reached for again. Knows nothing of streams or calls.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import Client, Server

from choregos.foundation.backoff import RECONNECT
from choregos.foundation.bus.address import BusAddress, inbox_prefix
from choregos.foundation.errors import Denied, Temporary
from choregos.foundation.timeout import timeout

__all__ = ["Bus", "BusAddress", "connect"]

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
PING_PERIOD_S = 15
"""After two unanswered pings the connection counts as lost, so a silent network is noticed within 45 s."""


class _LastingClient(Client):
    """nats-py's client, except that no server error ends it for good, and nothing unsent outlives a connection."""

    async def _process_err(self, err_msg: str) -> None:
        # nats-py closes the client for ever on most protocol errors ("Slow Consumer", "Server Shutdown", …).
        error = nats_errors.Error(f"nats-server: {err_msg.strip(chr(39))}")
        if "permissions violation" in err_msg:
            await self._error_cb(error)
        else:
            await self._process_op_err(error)

    def drop_unsent(self) -> None:
        """Forgets what was published and not yet written to the socket."""
        self._pending.clear()
        self._pending_data_size = 0


class Bus:
    """An open connection. Made by `connect`.

    Attributes:
        client: nats-py's client. It raises `OutboundBufferLimitError` while there is no connection: nothing waits.
    """

    def __init__(self) -> None:
        self._client = _LastingClient()
        self._listeners: list[Callable[[bool], None]] = []
        self._returned = asyncio.Event()
        self._opened = False
        self._last_error: Exception | None = None

    @property
    def client(self) -> Client:
        return self._client

    @property
    def connected(self) -> bool:
        return self._client.is_connected

    async def wait_connected(self) -> None:
        """Returns at once while there is a connection, else when it is back."""
        while not self._client.is_connected:
            self._returned.clear()
            await self._returned.wait()

    def on_change(self, listener: Callable[[bool], None]) -> Callable[[], None]:
        """Calls `listener(connected)` after each loss and each return of the connection; the result ends that.

        After a return nats-py's subscriptions are in place again; JetStream consumers may be gone.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def open(self, address: BusAddress, name: str, timeout_s: float) -> None:
        options: dict[str, Any] = {
            "servers": list(address.servers),
            "inbox_prefix": inbox_prefix(address.user),
            "name": name,
            "error_cb": self._failed,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            "reconnect_to_server_handler": _next_server,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT.initial_s,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "ping_interval": PING_PERIOD_S,
            "pending_size": 0,
        }
        if address.user:
            options |= {"user": address.user, "password": address.password}
        try:
            async with timeout(timeout_s):
                await self._client.connect(**options)
        except TimeoutError as error:
            await self.close()
            where = ", ".join(address.servers)
            raise Temporary(f"nats-server does not answer at {where}: {self._last_error}") from error
        except BaseException:
            await self.close()
            raise
        self._opened = True

    async def close(self) -> None:
        self._listeners.clear()
        if not self._client.is_closed:
            await self._client.close()

    async def _failed(self, error: Exception) -> None:
        self._last_error = error
        if not self._opened and "authorization violation" in str(error).lower():
            raise Denied("nats-server refuses this user and password") from error
        if isinstance(error, nats_errors.SlowConsumerError):
            log.warning("messages dropped: %s", error)
        elif isinstance(error, OSError | nats_errors.StaleConnectionError | asyncio.TimeoutError):
            log.debug("nats-server cannot be reached: %r", error)
        else:
            log.warning("nats-server or its client: %s", error or repr(error))

    async def _disconnected(self) -> None:
        self._client.drop_unsent()
        if self._opened and not self._client.is_closed:
            log.warning("connection to nats-server lost")
        self._tell(False)

    async def _reconnected(self) -> None:
        log.warning("connection to nats-server is back")
        self._returned.set()
        self._tell(True)

    def _tell(self, connected: bool) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(connected)
            except Exception:  # the others have to know all the same
                log.exception("a listener for the connection failed")


def _next_server(servers: list[Server], _info: dict[str, Any]) -> tuple[Server, float]:
    """The server that failed least, and how long to wait before trying it."""
    server = min(servers, key=lambda candidate: candidate.reconnects)
    return server, RECONNECT.delay_s(server.reconnects, random.random())


@asynccontextmanager
async def connect(address: BusAddress, name: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> AsyncIterator[Bus]:
    """A connection for as long as the context lasts; `name` is what the server's monitoring shows.

    Raises:
        Temporary: no server answered within `timeout_s` seconds.
        Denied: the server refuses user and password.
    """
    bus = Bus()
    await bus.open(address, name, timeout_s)
    try:
        yield bus
    finally:
        await bus.close()
