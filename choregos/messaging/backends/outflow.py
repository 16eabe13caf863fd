"""What one connection sends: in one piece what comes in one turn of the event loop, and slower when the peer is."""

from __future__ import annotations

import asyncio
from typing import cast

BUFFER_BYTES_MAX = 1_048_576
"""Unsent bytes above which there is no more room."""


class Outflow:
    """Of one asyncio protocol, which hands on `pause_writing` and `resume_writing`.

    Attributes:
        room: None if the peer keeps up; else done when it does again, or when the connection is over.
    """

    __slots__ = ("_loop", "_transport", "_unsent", "_writing", "room")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        # What was written in this turn of the loop after the first: one system call for all of it.
        self._unsent: list[bytes] = []
        self._writing = False
        self.room: asyncio.Future[None] | None = None

    def begin(self, transport: asyncio.BaseTransport) -> asyncio.Transport:
        """To be called with what `connection_made` gets."""
        # uvloop's transports are not subclasses of asyncio's, so this cannot be asserted.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BUFFER_BYTES_MAX)
        return self._transport

    def write(self, data: bytes) -> None:
        """Sends at once what comes alone, and together what comes in one turn; nothing once the connection is over."""
        if self._writing:
            self._unsent.append(data)
        elif self._transport is not None:
            self._writing = True
            self._loop.call_soon(self.flush)
            self._transport.write(data)

    def flush(self) -> None:
        """Gives all to the transport."""
        self._writing = False
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            if self._transport is not None:
                self._transport.write(b"".join(unsent))

    async def wait_for_room(self) -> None:
        while self.room is not None:
            await asyncio.shield(self.room)

    def pause(self) -> None:
        self.room = self._loop.create_future()

    def resume(self) -> None:
        if self.room is not None:
            self.room.set_result(None)
            self.room = None

    def end(self) -> None:
        """The connection is over: what is unsent stays so."""
        self._transport = None
        self._unsent.clear()
        self.resume()
