"""One question of an API server to one node, and the node's answer: core request and reply of one service."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from choregos.foundation.errors import CallError, Temporary
from choregos.foundation.tasks import Tasks, logged
from choregos.messaging.transport import CallTransport, Closer
from choregos.wire.node import node_subject

ANSWER_TIMEOUT_S = 5.0
REQUESTS_MAX = 256

Request = TypeVar("Request", bound=msgspec.Struct)
Reply = TypeVar("Reply", bound=msgspec.Struct)

log = logging.getLogger(__name__)


class Asker(Generic[Request, Reply]):
    """The API server's side of one service."""

    def __init__(self, transport: CallTransport, region: str, service: str, reply: type[Reply]) -> None:
        self._transport = transport
        self._region = region
        self._service = service
        self._decoder = msgspec.msgpack.Decoder(reply)

    async def ask(self, node: str, request: Request, timeout_s: float = ANSWER_TIMEOUT_S) -> Reply:
        """
        Raises:
            Temporary: there is no answer within `timeout_s` seconds, or none that can be read.
        """
        subject = node_subject(self._region, node, self._service)
        try:
            answer = await self._transport.request(subject, msgspec.msgpack.encode(request), timeout_s)
            return self._decoder.decode(answer)
        except (CallError, msgspec.MsgspecError) as error:
            raise Temporary(f"node {node} does not answer for its {self._service}: {error}") from error


class Answerer(Generic[Request, Reply]):
    """The node's side of one service: each request is answered in a task of its own.

    Args:
        request: its type, or the union of its types.

    Not answered is what cannot be read, what comes while `REQUESTS_MAX` wait, and what `answer` fails at: the asker
    runs into its time-out.
    """

    def __init__(
        self,
        transport: CallTransport,
        service: str,
        request: Any,
        answer: Callable[[Request], Awaitable[Reply]],
    ) -> None:
        self._transport = transport
        self._service = service
        self._decoder = msgspec.msgpack.Decoder(request)
        self._answer = answer
        self._tasks = Tasks(on_failure=logged)
        self._close: Closer

    async def open(self, region: str, node: str) -> None:
        self._close = await self._transport.serve(node_subject(region, node, self._service), self._received)

    async def close(self) -> None:
        await self._close()
        await self._tasks.close()

    def _received(self, payload: bytes, reply: str) -> None:
        if not reply or len(self._tasks) >= REQUESTS_MAX:
            return
        try:
            request = self._decoder.decode(payload)
        except msgspec.MsgspecError as error:
            log.warning("a request for %s cannot be read: %s", self._service, error)
            return
        self._tasks.start(self._respond(request, reply), f"answer for {self._service}")

    async def _respond(self, request: Request, reply: str) -> None:
        answer = await self._answer(request)
        with contextlib.suppress(CallError):
            await self._transport.publish(reply, msgspec.msgpack.encode(answer))
