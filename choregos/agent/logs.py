"""The logs of a node's agents, in memory: the newest lines of each, within a bound for each and for all.

An agent's log goes on when the agent is started again; `begin` marks where, and the log of the instance before the
last start is what lies before the mark.

Invariants: no agent holds more than `bytes_per_agent`, all together no more than `bytes_total`; a silent agent costs
nothing. Over the total, the log that was quiet for longest goes as a whole. Nothing is written to disk.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from choregos.wire.instances import VERSION
from choregos.wire.node import LogReply, LogRequest

_LINE_OVERHEAD_BYTES = 200
"""What a line costs beside its text: tuple, numbers, string header."""

_FOLLOWERS_MAX = 1000


class _Ring:
    """The lines of one agent: (cursor, wall clock in milliseconds, level, text).

    Attributes:
        began, began_before: cursors after which the lines are those of the present instance, and of the one before it.
    """

    __slots__ = ("began", "began_before", "lines", "size")

    def __init__(self) -> None:
        self.lines: deque[tuple[int, int, str, str]] = deque()
        self.size = 0
        self.began = self.began_before = 0

    def drop_oldest(self) -> int:
        line = self.lines.popleft()
        freed = len(line[3]) + _LINE_OVERHEAD_BYTES
        self.size -= freed
        return freed


class LogBook:
    """Logs by agent uid. A cursor is the number of a line among all lines of the book, from 1."""

    def __init__(self, bytes_per_agent: int, bytes_total: int) -> None:
        self._bytes_per_agent = bytes_per_agent
        self._bytes_total = bytes_total
        self._rings: OrderedDict[str, _Ring] = OrderedDict()
        self._size = 0
        self._cursor = 0
        self._followers: dict[str, set[asyncio.Future[None]]] = {}

    def begin(self, uid: str) -> None:
        """The agent is being started: what there is was written by an earlier instance."""
        ring = self._rings.get(uid)
        if ring is not None:
            ring.began_before, ring.began = ring.began, self._cursor

    def append(self, uid: str, wall_ms: int, level: str, text: str) -> None:
        """Adds one line; text beyond a quarter of an agent's bound is cut off."""
        text = text[: self._bytes_per_agent // 4]
        ring = self._rings.get(uid)
        if ring is None:
            ring = self._rings[uid] = _Ring()
        self._rings.move_to_end(uid)
        self._cursor += 1
        size = len(text) + _LINE_OVERHEAD_BYTES
        ring.lines.append((self._cursor, wall_ms, level, text))
        ring.size += size
        self._size += size
        while ring.size > self._bytes_per_agent:
            self._size -= ring.drop_oldest()
        while self._size > self._bytes_total and len(self._rings) > 1:
            self._size -= self._rings.popitem(last=False)[1].size
        for follower in self._followers.pop(uid, ()):
            if not follower.done():
                follower.set_result(None)

    def read(self, request: LogRequest) -> LogReply:
        """What there is now."""
        ring = self._rings.get(request.uid)
        if ring is None:
            return LogReply(VERSION, known=False, lines=(), cursor=request.after)
        if request.previous:
            after, last = ring.began_before, ring.began
        else:
            # Whoever follows reads on, whatever was started meanwhile.
            after, last = request.after or ring.began, self._cursor
        lines = [
            (wall_ms, level, text)
            for cursor, wall_ms, level, text in ring.lines
            if after < cursor <= last and wall_ms >= request.since_ms
        ]
        if request.tail_lines >= 0:
            lines = lines[len(lines) - min(request.tail_lines, len(lines)) :]
        return LogReply(VERSION, known=True, lines=tuple(lines), cursor=max(ring.lines[-1][0], request.after))

    async def follow(self, request: LogRequest) -> LogReply:
        """What there is now, or once a line is written, or when `request.wait_s` has passed."""
        reply = self.read(request)
        if reply.lines or request.wait_s <= 0 or len(self._followers) >= _FOLLOWERS_MAX:
            return reply
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._followers.setdefault(request.uid, set()).add(written)
        try:
            await asyncio.wait((written,), timeout=request.wait_s)
        finally:
            waiting = self._followers.get(request.uid)
            if waiting is not None:
                waiting.discard(written)
                if not waiting:
                    del self._followers[request.uid]
        return self.read(request)
