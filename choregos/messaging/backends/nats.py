"""Calls over core NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from choregos.foundation.bus.address import BusAddress, inbox_prefix
from choregos.foundation.errors import Unavailable
from choregos.foundation.ids import SystemIds
from choregos.foundation.timeout import timeout
from choregos.messaging.backends.nats_connection import CONNECT_TIMEOUT_S, NatsConnection, connect
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.replies import Replies
from choregos.messaging.transport import Closer, Farewell, OnMessage

CLOSE_TIMEOUT_S = 1.0

_NO_RESPONDERS = b"503"


class NatsCallTransport:
    """A `CallTransport`. Made by `open_nats_transport`."""

    def __init__(self, connection: NatsConnection, inbox: str, deadlines: Deadlines) -> None:
        self._connection = connection
        self._prefix = f"{inbox}."
        self._replies = Replies(self._prefix, self._send, deadlines)

    async def open(self) -> None:
        await self._connection.subscribe(f"{self._prefix}*", self._answered)

    async def request(self, subject: str, payload: bytes, timeout_s: float, farewell: Farewell | None = None) -> bytes:
        return await self._replies.ask(subject, payload, timeout_s, farewell)

    async def publish(self, subject: str, payload: bytes) -> None:
        await self._connection.publish(subject, payload)

    async def serve(self, subject: str, on_message: OnMessage) -> Closer:
        unsubscribe = await self._connection.subscribe(
            subject, lambda _, reply, payload, status: on_message(payload, reply.decode())
        )

        async def close() -> None:
            unsubscribe()
            # Until the server knows, it sends on what nobody will answer, instead of telling the caller. A server that
            # is not there or hangs holds up nobody's end.
            with suppress(Unavailable, TimeoutError):
                async with timeout(CLOSE_TIMEOUT_S):
                    await self._connection.flush()

        return close

    def abandon(self, gone: Callable[[str], bool]) -> None:
        self._replies.abandon(gone)

    async def close(self) -> None:
        self._replies.close()

    def _send(self, subject: str, payload: bytes, number: int) -> asyncio.Future[None] | None:
        return self._connection.send(subject, payload, f"{self._prefix}{number}" if number else "")

    def _answered(self, subject: bytes, reply: bytes, payload: bytes, status: bytes) -> None:
        try:
            number = int(subject[len(self._prefix) :])
        except ValueError:
            return  # somebody else's invention: ours end in a number
        if status == _NO_RESPONDERS:
            self._replies.deliver(number, Unavailable("nobody listens on the agent's subject any more"))
        else:
            self._replies.deliver(number, payload)


@asynccontextmanager
async def open_nats_transport(
    address: BusAddress, name: str, deadlines: Deadlines, *, timeout_s: float = CONNECT_TIMEOUT_S
) -> AsyncIterator[NatsCallTransport]:
    """A transport with a connection of its own, for as long as the context lasts.

    Raises:
        Temporary: no server answered within `timeout_s` seconds.
        Denied: the server refuses user and password.
    """
    # The first token is the user's, as the bus's permissions have it; the second keeps processes apart.
    async with connect(address, name, timeout_s=timeout_s) as connection:
        transport = NatsCallTransport(connection, f"{inbox_prefix(address.user)}.{SystemIds().suffix(20)}", deadlines)
        await transport.open()
        try:
            yield transport
        finally:
            await transport.close()
