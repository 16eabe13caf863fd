"""The node's ends of a command's streams: pipes, or the master side of a terminal.

Invariant: no more than `BUFFERED_BYTES_MAX` of output are held; beyond that the command is not read, and waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable

from choregos.foundation.timeout import timeout

BUFFERED_BYTES_MAX = 256 * 1024
READ_BYTES_MAX = 64 * 1024


class Output:
    """What a command writes, by channel, until every writer has closed its end.

    Args:
        on_news: called when there is something to `take`, and when a stream has ended.
    """

    def __init__(self, on_news: Callable[[], None]) -> None:
        self._on_news = on_news
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._open: dict[int, int] = {}  # descriptor → channel
        self._paused = False

    def read_from(self, descriptor: int, channel: int) -> None:
        """Takes the descriptor over."""
        os.set_blocking(descriptor, False)
        self._open[descriptor] = channel
        self._loop.add_reader(descriptor, self._readable, descriptor)

    def note(self, channel: int, data: bytes) -> None:
        """Adds what the command has not written itself."""
        self._chunks.append((channel, data))

    @property
    def ended(self) -> bool:
        return not self._open

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._chunks)

    def take(self) -> tuple[tuple[int, bytes], ...]:
        """All that is held, in the order in which it was read; the command is read again."""
        taken, self._size = tuple(self._chunks), 0
        self._chunks.clear()
        if self._paused:
            self._paused = False
            for descriptor in self._open:
                self._loop.add_reader(descriptor, self._readable, descriptor)
        return taken

    def close(self) -> None:
        for descriptor in tuple(self._open):
            self._end(descriptor)

    def _readable(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, READ_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:  # EIO: the terminal has no other side any more
            data = b""
        if data:
            self._chunks.append((self._open[descriptor], data))
            self._size += len(data)
            if self._size >= BUFFERED_BYTES_MAX:
                self._paused = True
                for each in self._open:
                    self._loop.remove_reader(each)
        else:
            self._end(descriptor)
        self._on_news()

    def _end(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        del self._open[descriptor]
        os.close(descriptor)


class Input:
    """What a command reads; one writer at a time.

    Args:
        descriptor: is taken over.
        end: written instead of closing the descriptor, which goes on being read: a terminal's sign for the end.
    """

    def __init__(self, descriptor: int, end: bytes = b"") -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._end = end
        self._open = True
        self._ready: asyncio.Future[None] | None = None  # who waits for room

    async def write(self, data: bytes, wait_s: float) -> int:
        """How much of it the command's side has taken within `wait_s` seconds; all of it, if nobody reads any more."""
        rest = memoryview(data)
        with contextlib.suppress(TimeoutError):
            async with timeout(wait_s):
                while rest and self._open:
                    try:
                        rest = rest[os.write(self._descriptor, rest) :]
                    except BlockingIOError:
                        await self._writable()
                    except OSError:
                        self.close()
        return len(data) - len(rest) if self._open else len(data)

    async def finish(self, wait_s: float) -> None:
        """There is no more."""
        if self._end:
            await self.write(self._end, wait_s)
        else:
            self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._has_room()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_writer(self._descriptor, self._has_room)
        try:
            await self._ready
        finally:
            if self._open:
                loop.remove_writer(self._descriptor)

    def _has_room(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
