"""What a worker is doing right now, in memory it shares with its node.

The worker writes before and after every step of an agent (a stretch of its code between two points where it yields).
The node reads it when the worker has gone silent: C code that holds the interpreter's lock stops every thread of the
worker, so only what was written before can tell who it was. Room behind the marks takes the stack that the worker's
fault handler writes on `STACK_SIGNAL`, which needs no interpreter lock either.

Invariant: the turn is another each time the event loop gives control to an agent; the uid is that of the agent whose
code runs, which may be another than the one that was given control (it calls a neighbour directly).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct

_MARK = struct.Struct("=Q64s")
_UID_AT = 8
_STACK_AT = 4096
_STACK_BYTES_MAX = 16 * 1024

STACK_SIGNAL = signal.SIGUSR2
"""The node sends it to a silent worker: write your stack into the marks' file."""


class MarksWriter:
    """The worker's side. Runs tens of thousands of times a second, so it checks nothing."""

    __slots__ = ("_page",)

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, _STACK_AT)

    def begin(self, turn: int, uid: bytes) -> None:
        """The agent's code runs from now on, in this turn of the event loop."""
        _MARK.pack_into(self._page, 0, turn, uid)

    def end(self) -> None:
        """No agent's code runs."""
        self._page[_UID_AT] = 0


class MarksReader:
    """The node's side: makes and owns the file.

    Attributes:
        descriptor: of the file, for the worker to inherit.

    Raises:
        OSError: there is no descriptor or no memory left; nothing is held then.
    """

    __slots__ = ("_page", "descriptor")

    def __init__(self) -> None:
        self.descriptor = _anonymous_file()
        try:
            os.truncate(self.descriptor, _STACK_AT)
            # The fault handler writes at the position of the open file, which both processes share.
            os.lseek(self.descriptor, _STACK_AT, os.SEEK_SET)
            self._page = mmap.mmap(self.descriptor, _STACK_AT)
        except BaseException:
            os.close(self.descriptor)
            raise

    def read(self) -> tuple[int, str]:
        """(turn, uid of the agent whose code runs, empty if none does)."""
        turn, uid = _MARK.unpack_from(self._page, 0)
        return turn, uid.split(b"\0", 1)[0].decode(errors="replace")

    def stack(self) -> str:
        """What the worker's fault handler wrote, innermost call first; empty if it wrote nothing."""
        written = os.pread(self.descriptor, _STACK_BYTES_MAX, _STACK_AT)
        return written.decode(errors="replace").strip()

    def close(self) -> None:
        with contextlib.suppress(BufferError):
            self._page.close()
        os.close(self.descriptor)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("choregos-marks")
    import tempfile  # slow to import, and every worker imports this module

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
