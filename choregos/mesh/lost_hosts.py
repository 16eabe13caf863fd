"""Tells which hosts (workers) are lost, as the directory shows it: no agent is in them any more.

That a worker has ended only its node sees. But the node writes of each agent what became of it, whoever binds an agent
elsewhere says so too, and all of that is in the directory, of every node and after every outage. So who waits for an
answer from a host need not hear of its end in another way.

Invariant: a host that is told as lost has not been named by the directory for `DOUBT_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from choregos.store.directory import Directory
from choregos.store.instance import InstanceChange

DOUBT_S = 0.1
"""For answers that were sent before the end and are still on their way, and for a status that a late one of another
node has overwritten, which is written again."""


class LostHosts:
    """Follows a directory until `close`; must be made inside the event loop.

    Args:
        on_lost: told the hosts that have been lost since the last time.
    """

    def __init__(self, directory: Directory, on_lost: Callable[[Sequence[str]], None]) -> None:
        self._directory = directory
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._doubtful: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._unsubscribe = directory.on_change(self._changed)

    def close(self) -> None:
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()

    def _changed(self, changes: Sequence[InstanceChange]) -> None:
        for change in changes:
            previous = change.previous
            if previous is not None and previous.host and not self._directory.has_host(previous.host):
                self._doubtful.add(previous.host)
        if self._doubtful and self._timer is None:
            self._timer = self._loop.call_later(DOUBT_S, self._judge, frozenset(self._doubtful))
            self._doubtful.clear()

    def _judge(self, doubtful: frozenset[str]) -> None:
        self._timer = None
        lost = tuple(host for host in doubtful if not self._directory.has_host(host))
        if self._doubtful:
            self._changed(())
        if lost:
            self._on_lost(lost)
