"""What neighbours say to each other, as bytes in, calls out. No input or output of its own.

A frame is a length (four bytes), a number (eight bytes), both big-endian, and so many bytes of payload.

- From who asks: a request, and its number; what wants no reply has the number 0. Numbers grow.
- From who answers: first the number 0 with `GREETING` and the link's token; then answers, each with the number of its
  request; and once the number 0 with the last number that was taken (eight bytes): later ones never will be.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from choregos.foundation.bus.address import MESSAGE_BYTES_MAX
from choregos.foundation.errors import PayloadTooLarge

GREETING = b"choregos calls 1 "
PAYLOAD_BYTES_MAX = MESSAGE_BYTES_MAX
"""As nats-server's: whether a call goes over the bus or not, it may carry the same."""

_header = Struct("!IQ")
_HEADER_BYTES = _header.size
_pack, _unpack = _header.pack, _header.unpack_from

OnFrame = Callable[[int, bytes], None]
"""Takes number and payload."""


class FrameError(Exception):
    """What came is no frame; the connection is of no more use."""


def frame(number: int, payload: bytes) -> bytes:
    """
    Raises:
        PayloadTooLarge: see there.
    """
    size = len(payload)
    if size > PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(f"{size:,} bytes are more than a call takes: {PAYLOAD_BYTES_MAX:,}")
    return _pack(size, number) + payload


def last_taken(number: int) -> bytes:
    """The frame that says so."""
    return frame(0, number.to_bytes(8, "big"))


class FrameReader:
    """Feed it what arrives. Invariant: `_parts` are the beginning of one frame that is not complete."""

    __slots__ = ("_held", "_needed", "_on_frame", "_parts")

    def __init__(self, on_frame: OnFrame) -> None:
        self._on_frame = on_frame
        # A frame that comes in many pieces is joined once it is long enough, not once per piece.
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = 0

    def feed(self, data: bytes) -> None:
        """
        Raises:
            FrameError: see there.
        """
        if self._parts:
            self._parts.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return
            data = b"".join(self._parts)
            self._parts = []
        position, length = 0, len(data)
        self._needed = _HEADER_BYTES
        while length - position >= _HEADER_BYTES:
            size, number = _unpack(data, position)
            if size > PAYLOAD_BYTES_MAX:
                raise FrameError(f"a frame of {size:,} bytes was announced")
            begin = position + _HEADER_BYTES
            end = begin + size
            if end > length:
                self._needed = end - position
                break
            self._on_frame(number, data[begin:end])
            position = end
        if position < length:
            self._parts.append(data[position:] if position else data)
            self._held = length - position
