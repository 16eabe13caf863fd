"""What a worker process writes to its standard output and error, cut into lines.

Invariant: no more than one line is held, and none is longer than `LINE_BYTES_MAX`: a longer one comes in pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LINE_BYTES_MAX = 8 * 1024


class OutputPipe(asyncio.Protocol):
    """The reading end of the pipe.

    Attributes:
        ended: set when every process that could write has closed its end.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.ended = asyncio.Event()
        self._on_line = on_line
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._emit(line)
        while len(rest) > LINE_BYTES_MAX:
            self._emit(rest[:LINE_BYTES_MAX])
            rest = rest[LINE_BYTES_MAX:]
        self._rest = rest

    def connection_lost(self, _error: Exception | None) -> None:
        if self._rest:
            self._emit(self._rest)
            self._rest = b""
        self.ended.set()

    def _emit(self, line: bytes) -> None:
        for start in range(0, max(len(line), 1), LINE_BYTES_MAX):
            self._on_line(line[start : start + LINE_BYTES_MAX].decode(errors="replace"))
