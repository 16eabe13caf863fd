"""The client's half of the NATS protocol as bytes in, calls out. No input or output of its own.

Follows https://docs.nats.io/reference/reference-protocols/nats-protocol: lines that end in CR LF, and `MSG` and
`HMSG` with a payload behind the line. Written for speed: one search and one split per message, no regular expression.
"""

from __future__ import annotations

from collections.abc import Callable

LINE_BYTES_MAX = 65_536
"""`INFO` of a large cluster is the longest line there is."""

OnMessage = Callable[[bytes, bytes, bytes, bytes, bytes], None]
"""Takes subscription id, subject, reply subject, payload and the status of its headers (`503`: no responders)."""

OnLine = Callable[[bytes, bytes], None]
"""Takes verb and rest of any other line: `INFO`, `PING`, `PONG`, `+OK`, `-ERR`."""


class ProtocolError(Exception):
    """What came is not the NATS protocol; the connection is of no more use."""


class Parser:
    """Feed it what arrives. Invariant: `_rest` is the beginning of one line or message that is not complete."""

    __slots__ = ("_needed", "_on_line", "_on_message", "_parts", "_rest")

    def __init__(self, on_message: OnMessage, on_line: OnLine) -> None:
        self._on_message = on_message
        self._on_line = on_line
        # A message that comes in many pieces is joined once it is long enough, not once per piece.
        self._parts: list[bytes] = []
        self._rest = 0
        self._needed = 0

    def feed(self, data: bytes) -> None:
        """
        Raises:
            ProtocolError: see there.
        """
        if self._parts:
            self._parts.append(data)
            self._rest += len(data)
            if self._rest < self._needed:
                return
            data = b"".join(self._parts)
            self._parts = []
        position = 0
        self._needed = 0
        length = len(data)
        while position < length:
            end = data.find(b"\r\n", position)
            if end < 0:
                if length - position > LINE_BYTES_MAX:
                    raise ProtocolError(f"a line is longer than {LINE_BYTES_MAX} bytes")
                break
            if data.startswith((b"MSG ", b"HMSG "), position):
                after = self._message(data, position, end + 2)
                if after == 0:
                    break
                position = after
            else:
                verb, _, rest = data[position:end].partition(b" ")
                position = end + 2
                self._on_line(verb.upper(), rest)
        if position < length:
            self._parts.append(data[position:] if position else data)
            self._rest = length - position

    def _message(self, data: bytes, start: int, payload_start: int) -> int:
        """Hands on the message whose line is `data[start : payload_start]`; where it ends, or 0 if it is incomplete."""
        fields = data[start : payload_start - 2].split()
        try:
            size = int(fields[-1])
            payload_end = payload_start + size
            if len(data) < payload_end + 2:
                self._needed = payload_end + 2 - start
                return 0
            if fields[0] == b"MSG":
                subject, sid, reply = fields[1], fields[2], fields[3] if len(fields) == 5 else b""
                self._on_message(sid, subject, reply, data[payload_start:payload_end], b"")
            else:
                subject, sid, reply = fields[1], fields[2], fields[3] if len(fields) == 6 else b""
                body_start = payload_start + int(fields[-2])
                status = data[payload_start:body_start].split(b"\r\n", 1)[0].partition(b" ")[2][:3]
                self._on_message(sid, subject, reply, data[body_start:payload_end], status)
        except (IndexError, ValueError) as error:
            raise ProtocolError(f"cannot read {data[start : payload_start - 2][:80]!r}") from error
        return payload_end + 2
