"""Requests to JetStream over one subscription, which fail at once when the connection is lost.

Invariant: a request ends with its answer, with `Temporary`, or by cancellation; none outlives the connection it was
sent on, because its answer cannot come any more. An unanswered request may have been carried out all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Any, Self

import msgspec
from nats import errors as nats_errors
from nats.aio.msg import Msg

from choregos.foundation.bus.connection import Bus
from choregos.foundation.errors import Temporary, TooLarge
from choregos.foundation.timeout import timeout

TIMEOUT_S = 5.0
RETRY_AFTER_S = 0.5
NO_RESPONDERS = "503"


class Requests:
    """An async context manager."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._inbox: str = bus.client.new_inbox()
        self._numbers = count(1)
        self._waiting: dict[str, asyncio.Future[bytes]] = {}

    async def __aenter__(self) -> Self:
        self._subscription = await self._bus.client.subscribe(f"{self._inbox}.*", cb=self._answered)
        self._forget_listener = self._bus.on_change(self._connection_changed)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._forget_listener()
        self._fail_all("the log was closed")
        if not self._bus.client.is_closed:
            await self._subscription.unsubscribe()

    def unique(self) -> str:
        """A name that nobody else has used, of at most 64 characters."""
        return f"{self._inbox.rpartition('.')[2]}-{next(self._numbers)}"

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None, reply: str = "") -> None:
        """Hands a message to the connection; raises `Temporary` if there is none, and then it is never sent."""
        try:
            await self._bus.client.publish(subject, data, reply, dict(headers) if headers else None)
        except nats_errors.MaxPayloadError as error:
            limit = self._bus.client.max_payload
            raise TooLarge(f"a record may have {limit} bytes, this has {len(data)}") from error
        except (nats_errors.Error, OSError) as error:
            raise Temporary("there is no connection to nats-server", retry_after_s=RETRY_AFTER_S) from error

    async def request(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        """The answer to one message.

        Raises:
            Temporary: there was none within `TIMEOUT_S` seconds, or nobody serves the subject now.
            TooLarge: the message is over nats-server's limit.
        """
        number = str(next(self._numbers))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with timeout(TIMEOUT_S):
                await self.publish(subject, data, headers, f"{self._inbox}.{number}")
                return await answer
        except TimeoutError as error:
            raise Temporary(f"no answer from nats-server within {TIMEOUT_S:.0f} s ({subject})") from error
        finally:
            del self._waiting[number]

    async def call(self, operation: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer of JetStream's API to `$JS.API.<operation>`, its `error` field included."""
        data = msgspec.json.encode(arguments) if arguments is not None else b""
        answer: dict[str, Any] = msgspec.json.decode(await self.request(f"$JS.API.{operation}", data))
        return answer

    async def _answered(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer is None or answer.done():
            return
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            answer.set_exception(Temporary("JetStream does not answer (yet)", retry_after_s=RETRY_AFTER_S))
        else:
            answer.set_result(message.data)

    def _connection_changed(self, connected: bool) -> None:
        if not connected:
            self._fail_all("the connection to nats-server was lost")

    def _fail_all(self, reason: str) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Temporary(reason, retry_after_s=RETRY_AFTER_S))
