"""A lasting connection to nats-server for calls: publish, subscribe, flush, and back again after every loss.

Calls do not use nats-py's client (JetStream does, `choregos.foundation.bus.connection`): it costs a call a third more
time and a worker process 0.1 s of start. `docs/decisions/0007-calls-speak-nats-themselves.md` has the figures.

Invariant: what could not be written before the connection was lost is never sent afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from choregos.foundation.backoff import RECONNECT
from choregos.foundation.bus.address import BusAddress
from choregos.foundation.errors import ChoregosError, Denied, PayloadTooLarge, Permanent, Temporary, Unavailable
from choregos.foundation.tasks import Tasks
from choregos.foundation.timeout import timeout
from choregos.messaging.backends.nats_link import NatsLink

CONNECT_TIMEOUT_S = 10.0

OnMessage = Callable[[bytes, bytes, bytes, bytes], None]
"""Takes subject, reply subject, payload and status of the headers. Must not raise."""

log = logging.getLogger(__name__)


class NatsConnection:
    """Made by `connect`."""

    def __init__(self, address: BusAddress, name: str) -> None:
        self._address = address
        self._name = name
        self._tasks = Tasks()
        self._link: NatsLink | None = None
        self._sid = 0
        self._subscriptions: dict[bytes, tuple[bytes, OnMessage]] = {}

    def send(self, subject: str, payload: bytes, reply: str = "") -> asyncio.Future[None] | None:
        """Hands a message to the socket, or if that is full one that wants a reply not: see `replies.Send`.

        Raises:
            Unavailable: there is no connection; nothing was sent.
            PayloadTooLarge: the server takes no such message.
        """
        link = self._connected()
        if reply and link.outflow.room is not None:
            return link.outflow.room
        size = len(payload)
        if size > link.payload_bytes_max:
            raise PayloadTooLarge(f"{size:,} bytes are more than the bus takes: {link.payload_bytes_max:,}")
        link.outflow.write(
            b"PUB %b %d\r\n%b\r\n" % (f"{subject} {reply}".encode() if reply else subject.encode(), size, payload)
        )
        return None

    async def publish(self, subject: str, payload: bytes) -> None:
        """As `send`, for what wants no reply; waits while the socket is full."""
        await self._connected().outflow.wait_for_room()
        self.send(subject, payload)

    async def subscribe(self, subject: str, on_message: OnMessage) -> Callable[[], None]:
        """Delivers messages from when this returns; the result ends that (`flush` to be sure the server knows).

        Raises:
            Unavailable: there is no connection.
            Denied: the server does not permit it.
        """
        link = self._connected()
        self._sid += 1
        sid = b"%d" % self._sid
        self._subscriptions[sid] = subject.encode(), on_message

        def unsubscribe() -> None:
            if self._subscriptions.pop(sid, None) is not None and self._link is not None:
                self._link.outflow.write(b"UNSUB %b\r\n" % sid)

        link.outflow.write(b"SUB %b %b\r\n" % (subject.encode(), sid))
        try:
            await link.flush()
        except BaseException:
            unsubscribe()
            raise
        if any(f'"{subject}"' in refusal for refusal in link.refusals):
            self._subscriptions.pop(sid, None)
            raise Denied(f"nats-server does not permit {self._address.user!r} to subscribe to {subject}")
        return unsubscribe

    async def flush(self) -> None:
        """Returns when the server has seen all that was sent before; raises `Unavailable`."""
        await self._connected().flush()

    async def open(self, timeout_s: float) -> None:
        """Reaches a server; afterwards the connection is kept up.

        Raises:
            Temporary: no server answered within `timeout_s` seconds.
            Denied, Permanent: a server answered and will not have us.
        """
        last: Exception = Temporary("no server is named")
        try:
            async with timeout(timeout_s):
                for attempt in range(1_000_000):
                    try:
                        self._link = await self._reach(attempt)
                        break
                    except (Temporary, OSError) as error:
                        last = error
                        await asyncio.sleep(RECONNECT.delay_s(attempt + 1, random.random()))
        except TimeoutError:
            where = ", ".join(self._address.servers)
            raise Temporary(f"nats-server does not answer at {where}: {last}") from last
        self._tasks.start(self._keep_up(), "keep up the connection for calls")

    async def close(self) -> None:
        await self._tasks.close()
        link, self._link = self._link, None
        if link is not None:
            link.close()
            await link.ended.wait()

    def _connected(self) -> NatsLink:
        link = self._link
        if link is None or link.ended.is_set():
            raise Unavailable("the bus cannot be reached")
        return link

    async def _reach(self, attempt: int) -> NatsLink:
        """A greeted connection with all subscriptions in place; raises what came in between."""
        server = urlsplit(self._address.servers[attempt % len(self._address.servers)])
        if server.scheme != "nats" or not server.hostname:
            raise Permanent(f"calls need nats://host:port, found {server.geturl()}")
        link = NatsLink(self._address, self._name, self._arrived)
        try:
            await asyncio.get_running_loop().create_connection(lambda: link, server.hostname, server.port or 4222)
            await link.greeted
            for sid, (subject, _) in self._subscriptions.items():
                link.outflow.write(b"SUB %b %b\r\n" % (subject, sid))
            await link.flush()
        except BaseException:
            link.close()
            raise
        return link

    async def _keep_up(self) -> None:
        while self._link is not None:
            await self._link.ended.wait()
            self._link = None
            log.warning("connection to nats-server lost")
            attempt = 0
            while self._link is None:
                try:
                    async with timeout(CONNECT_TIMEOUT_S):
                        self._link = await self._reach(attempt)
                except (OSError, TimeoutError, ChoregosError) as error:
                    log.debug("nats-server cannot be reached: %r", error)
                    attempt += 1
                    await asyncio.sleep(RECONNECT.delay_s(attempt, random.random()))
            log.warning("connection to nats-server is back")

    def _arrived(self, sid: bytes, subject: bytes, reply: bytes, payload: bytes, status: bytes) -> None:
        subscription = self._subscriptions.get(sid)
        if subscription is None:
            return
        try:
            subscription[1](subject, reply, payload, status)
        except Exception:
            log.exception("handling a message on %s failed", subject.decode(errors="replace"))


@asynccontextmanager
async def connect(
    address: BusAddress, name: str, *, timeout_s: float = CONNECT_TIMEOUT_S
) -> AsyncIterator[NatsConnection]:
    """A connection for as long as the context lasts; raises as `NatsConnection.open`."""
    connection = NatsConnection(address, name)
    try:
        await connection.open(timeout_s)
        yield connection
    finally:
        await connection.close()
