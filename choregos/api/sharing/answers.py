"""Answers on their way out: how much of them one flow may have that its clients have not taken yet.

A large answer is sent in parts, each when the connection has room for it; who reads sets the pace, and the request has
left its seat before. Invariant: a list that is being made, a large answer and a large part of a stream are counted for
as long as any of it waits here; a flow beyond the limit has nothing else made. `connections` ends those that take
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from choregos.api.rules.status import size, too_many_requests

PART_BYTES = 64 * 1024
"""What is no larger is handed to the connection as it is, and not counted: it costs hardly more than the connection."""


class Answers:
    """The answers of one server.

    Args:
        flow_bytes_max: unsent, of one flow; a single list may have more, if the flow has nothing else.
    """

    def __init__(self, flow_bytes_max: int) -> None:
        self._flow_bytes_max = flow_bytes_max
        self._flows: Counter[str] = Counter()

    def require_room(self, flow: str) -> None:
        """Before an answer is made. Raises: Refusal 429, the clients of the flow have not taken those it has."""
        if self._flows and self._flows[flow] >= self._flow_bytes_max:
            raise too_many_requests(f"{flow} has {size(self._flow_bytes_max)} of answers that are not read")

    @contextmanager
    def making(self, flow: str) -> Iterator[Callable[[int], None]]:
        """For a list, whose length nobody knows before: counts the bytes that the function is called with.

        Of the function:

        Raises:
            Refusal: 429, with what else the flow has this is too much.
        """
        made = 0

        def count(length: int) -> None:
            nonlocal made
            if self._flows[flow] > made:
                self.require_room(flow)
            self._flows[flow] += length
            made += length

        try:
            yield count
        finally:
            self._uncount(flow, made)

    def counted(self, flow: str, response: Response) -> ASGIApp:
        """What sends `response`, and counts it meanwhile unless it is small."""
        if isinstance(response, StreamingResponse):

            async def send_stream(scope: Scope, receive: Receive, send: Send) -> None:
                await response(scope, receive, partial(self._send_chunk, flow, send))

            return send_stream
        if len(response.body) <= PART_BYTES:
            return response

        async def send_large(scope: Scope, receive: Receive, send: Send) -> None:
            with self._unsent(flow, len(response.body)):
                await response(scope, receive, partial(_send_in_parts, send))

        return send_large

    async def _send_chunk(self, flow: str, send: Send, message: Message) -> None:
        length = len(message.get("body", b""))
        if length <= PART_BYTES:
            await send(message)
        else:
            with self._unsent(flow, length):
                await _send_in_parts(send, message)

    @contextmanager
    def _unsent(self, flow: str, length: int) -> Iterator[None]:
        self._flows[flow] += length
        try:
            yield
        finally:
            self._uncount(flow, length)

    def _uncount(self, flow: str, length: int) -> None:
        self._flows[flow] -= length
        if not self._flows[flow]:
            del self._flows[flow]


async def _send_in_parts(send: Send, message: Message) -> None:
    body = message.get("body", b"")
    if len(body) <= PART_BYTES:
        await send(message)
        return
    for start in range(0, len(body), PART_BYTES):
        end = start + PART_BYTES
        more = end < len(body) or message.get("more_body", False)
        await send({**message, "body": body[start:end], "more_body": more})
