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
_WAITING_BYTES_MAX = 1024 * 1024

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
        on_lost: called once, when the socket is closed by either side, with "", or when the peer broke the protocol,
            with what it did.
        on_writable: called when `writable` becomes true again.

    Attributes:
        writable: the peer keeps up with reading; a sender that can wait shall, until `on_writable`.
    """

    def __init__(
        self,
        type_: Any,
        on_messages: Callable[[Sequence[Message]], None],
        on_lost: Callable[[str], None],
        on_writable: Callable[[], None] = lambda: None,
    ) -> None:
        self.writable = True
        self._reader: FrameReader[Message] = FrameReader(type_)
        self._on_messages = on_messages
        self._on_lost = on_lost
        self._on_writable = on_writable
        self._reason = ""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from asyncio's
        self._transport.set_write_buffer_limits(high=_WAITING_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except (msgspec.MsgspecError, TooLarge) as error:
            self._reason = f"it broke the protocol: {error}"
            self.close()
            return
        if messages:
            self._on_messages(messages)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._on_writable()

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._on_lost(self._reason)

    @property
    def buffered(self) -> int:
        """Bytes that the peer has not read yet, beyond what the kernel holds."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, message: Any) -> None:
        """Queues one message; after the socket was lost it is dropped, for then its receiver is gone.

        Raises:
            TooLarge: it is over `FRAME_BYTES_MAX`.
        """
        if self._transport is not None:
            self._transport.write(encode(message))

    def finish(self) -> None:
        """Closes the socket once the peer has read what was sent; `on_lost` follows."""
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """Closes the socket now."""
        if self._transport is not None:
            self._transport.abort()
