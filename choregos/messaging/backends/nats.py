"""Calls over core NATS.

Messages are taken from nats-py at the moment its parser has them: a subscription is given an object in the place of a
`future`, whose `set_result` is the callback. That spares the queue, the task and the turn of the event loop that a
subscription with a coroutine callback costs per message, on both sides of a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from choregos.foundation.errors import PayloadTooLarge, Unavailable
from choregos.messaging.deadlines import Deadlines
from choregos.messaging.replies import Replies
from choregos.messaging.transport import Closer, Farewell, OnMessage

_NO_RESPONDERS = "503"

log = logging.getLogger(__name__)


class _Arrivals:
    """Stands where nats-py expects a future, and passes every message on.

    Nothing may be raised from here: nats-py would end its reading loop, and with it the connection, in silence.
    """

    __slots__ = ("_on_message",)

    def __init__(self, on_message: Callable[[Msg], None]) -> None:
        self._on_message = on_message

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        try:
            self._on_message(message)
        except Exception:
            log.exception("handling a message on %s failed", message.subject)


class NatsCallTransport:
    """Calls over a connection that somebody else opened and will close (`choregos.foundation.bus.connect`)."""

    def __init__(self, connection: Client, deadlines: Deadlines) -> None:
        """Use `open`."""
        self._connection = connection
        self._inbox = connection.new_inbox()
        self._replies = Replies(self._inbox, self._publish, deadlines)
        self._close_inbox: Closer | None = None

    @classmethod
    async def open(cls, connection: Client, deadlines: Deadlines) -> NatsCallTransport:
        transport = cls(connection, deadlines)
        transport._close_inbox = await transport._subscribe(f"{transport._inbox}.*", transport._answered)
        return transport

    async def request(self, subject: str, payload: bytes, timeout_s: float, farewell: Farewell | None = None) -> bytes:
        # While it reconnects nats-py would keep the request and send it later: perhaps after its deadline.
        if not self._connection.is_connected:
            raise Unavailable("the bus cannot be reached")
        return await self._replies.ask(subject, payload, timeout_s, farewell)

    async def publish(self, subject: str, payload: bytes) -> None:
        await self._publish(subject, payload, "")

    async def serve(self, subject: str, on_message: OnMessage) -> Closer:
        return await self._subscribe(subject, lambda message: on_message(message.data, message.reply))

    async def close(self) -> None:
        self._replies.close()
        if self._close_inbox is not None:
            await self._close_inbox()

    async def _publish(self, subject: str, payload: bytes, reply: str) -> None:
        try:
            await self._connection.publish(subject, payload, reply)
        except nats_errors.MaxPayloadError as error:
            raise PayloadTooLarge(f"{len(payload)} bytes are more than the bus takes in one message") from error
        except nats_errors.Error as error:
            raise Unavailable(f"the bus cannot be reached: {error}") from error

    async def _subscribe(self, subject: str, on_message: Callable[[Msg], None]) -> Closer:
        arrivals: Any = _Arrivals(on_message)
        try:
            subscription = await self._connection.subscribe(subject, future=arrivals)
            # A round trip: when it is over the server knows the subscription.
            await self._connection.flush()
        except (TimeoutError, nats_errors.Error) as error:
            raise Unavailable(f"cannot subscribe to {subject}: {error}") from error

        async def close() -> None:
            try:
                await subscription.unsubscribe()
            except nats_errors.Error:
                log.debug("the connection was gone before its subscription to %s", subject)

        return close

    def _answered(self, message: Msg) -> None:
        if message.headers and not message.data and message.headers.get("Status") == _NO_RESPONDERS:
            self._replies.deliver(message.subject, Unavailable("nobody listens on the agent's subject any more"))
        else:
            self._replies.deliver(message.subject, message.data)
