"""Frames over a stream socket: a four-byte big-endian length, then one msgpack value. Both ends use it.

Invariant: a frame is delivered whole or not at all, in order, and all that one read brought are delivered together.
Knows nothing of what the frames mean (`choregos.wire.worker` does).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import msgspec

from choregos.foundation.errors import TooLarge
from choregos.wire.worker import FRAME_BYTES_MAX

_HEADER_BYTES = 4

Message = TypeVar("Message")

_encoder = msgspec.msgpack.Encoder()


def encode(message: Any) -> bytes:
    """The frame of one message.

    Raises:
        TooLarge: it is over `FRAME_BYTES_MAX`.
    """
    body = _encoder.encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise TooLarge(f"a frame may have {FRAME_BYTES_MAX} bytes, this {type(message).__name__} has {len(body)}")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class FrameReader(Generic[Message]):
    """Cuts a byte stream into messages of one union type. No I/O."""

    def __init__(self, type_: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(type_)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completed.

        Raises:
            msgspec.MsgspecError: the peer sent what is no message of this protocol.
            TooLarge: it announced a frame over the limit.
        """
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        start = 0
        with memoryview(buffer) as view:
            while len(view) - start >= _HEADER_BYTES:
                body = start + _HEADER_BYTES
                length = int.from_bytes(view[start:body], "big")
                if length > FRAME_BYTES_MAX:
                    raise TooLarge(f"the peer announced a frame of {length} bytes")
                if len(view) < body + length:
                    break
                messages.append(self._decoder.decode(view[body : body + length]))
                start = body + length
        del buffer[:start]
        return messages


class FrameLink(asyncio.Protocol, Generic[Message]):
    """One end of a socket as an asyncio protocol.

    Args:
        type_: the union of messages that the peer may send.
        on_messages: called with each batch.
        on_lost: called once, when the socket is closed by either side or the peer broke the protocol.
    """

    def __init__(
        self, type_: Any, on_messages: Callable[[Sequence[Message]], None], on_lost: Callable[[], None]
    ) -> None:
        self._reader: FrameReader[Message] = FrameReader(type_)
        self._on_messages = on_messages
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except (msgspec.MsgspecError, TooLarge):
            self.close()
            return
        if messages:
            self._on_messages(messages)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._on_lost()

    def send(self, message: Any) -> None:
        """Queues one message; after the socket was lost it is dropped, for then its receiver is gone.

        The queue is bounded by the protocol: neither side sends more than the other has asked for or assigned.
        """
        if self._transport is not None:
            self._transport.write(encode(message))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
