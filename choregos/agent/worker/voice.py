"""What agents log and print, on its way to the node, each line with the uid of the agent it comes from.

Invariants: a line costs the agent that writes it no I/O; of what is written faster than it can be sent the oldest
lines are dropped, and the log says how many. Safe from any thread.
"""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from choregos.agent.worker.stepping import Floor
from choregos.foundation.clock import Clock
from choregos.messaging.tracebacks import sendable, summary_of
from choregos.wire.worker import LogLine, Logs

WAITING_MAX = 5_000
_FRAME_LINES_MAX = 500
_SEND_PERIOD_S = 0.05
_TEXT_CHARACTERS_MAX = 16 * 1024
_UNFINISHED_MAX = 64


class Voice(logging.Handler):
    """A handler for the root logger, and the source of `PrintedText`.

    Args:
        send: takes frames for the node; `writable` says whether the node keeps up, else the lines wait here.
    """

    def __init__(
        self, floor: Floor, clock: Clock, send: Callable[[Logs], None], writable: Callable[[], bool] = lambda: True
    ) -> None:
        super().__init__()
        self._floor = floor
        self._clock = clock
        self._send = send
        self._writable = writable
        self._loop = asyncio.get_running_loop()
        self._main = threading.get_ident()
        self._lines: deque[LogLine] = deque(maxlen=WAITING_MAX)
        self._dropped = 0
        self._sending = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:
            where = f"{record.filename}:{record.lineno}"
            text = f"(what was logged at {where} cannot be formatted: {summary_of(error)})"
        uid = getattr(record, "agent_uid", None)
        self.say(uid if isinstance(uid, str) else self.speaker(), record.levelname, text)

    def speaker(self) -> str:
        """The agent whose code runs in this thread; empty if that cannot be told."""
        resident = self._floor.resident
        return resident.uid if resident is not None and threading.get_ident() == self._main else ""

    def say(self, uid: str, level: str, text: str) -> None:
        if len(self._lines) == WAITING_MAX:
            self._dropped += 1
        self._lines.append(LogLine(uid, self._clock.wall_ms(), level, sendable(text[:_TEXT_CHARACTERS_MAX])))
        if not self._sending:
            self._sending = True
            self._loop.call_soon_threadsafe(self._send_later)

    def _send_later(self) -> None:
        self._loop.call_later(_SEND_PERIOD_S, self.flush)

    def flush(self) -> None:
        """Sends what waits, a frame at a time so that a flood leaves the event loop room."""
        if threading.get_ident() != self._main:
            return  # called by logging's own shutdown
        # First this: a line that a thread adds from here on is either among those taken or asks for another flush.
        self._sending = False
        if self._writable():
            self._send_some()
        if self._lines and not self._sending:
            self._sending = True
            self._send_later()

    def _send_some(self) -> None:
        lines = [self._lines.popleft() for _ in range(min(_FRAME_LINES_MAX, len(self._lines)))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            text = f"{dropped} lines were dropped: they came too fast"
            lines.append(LogLine("", self._clock.wall_ms(), "WARNING", text))
        if lines:
            self._send(Logs(tuple(lines)))


class PrintedText(io.TextIOBase):
    """Stands for `sys.stdout` and `sys.stderr`: what an agent prints is a line of its log.

    The unfinished line of at most `_UNFINISHED_MAX` agents is held; the oldest goes out as it is.
    """

    def __init__(self, voice: Voice, level: str) -> None:
        self._voice = voice
        self._level = level
        self._rest: OrderedDict[str, str] = OrderedDict()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        uid = self._voice.speaker()
        *lines, rest = (self._rest.pop(uid, "") + text).split("\n")
        for line in lines:
            self._voice.say(uid, self._level, line)
        if len(rest) > _TEXT_CHARACTERS_MAX:
            self._voice.say(uid, self._level, rest)
        elif rest:
            self._rest[uid] = rest
            if len(self._rest) > _UNFINISHED_MAX:
                self._voice.say(*self._oldest())
        return len(text)

    def _oldest(self) -> tuple[str, str, str]:
        uid, rest = self._rest.popitem(last=False)
        return uid, self._level, rest
