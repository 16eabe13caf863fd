"""Brings what the host says of its agents into the region's log: in batches, each agent's last word only.

Invariants: of what waits for one agent only the newest is kept, so what waits is bounded by the agents of the node;
nothing is given up while the log cannot be reached; a word about a binding that is over is dropped, because it would
replace the new owner's.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from choregos.agent.contract import HostStatus
from choregos.foundation.backoff import RECONNECT
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Temporary
from choregos.foundation.tasks import Tasks
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.port import BATCH_WRITES_MAX
from choregos.wire.instances import VERSION, StatusRecord

log = logging.getLogger(__name__)

Agent = tuple[str, str]
"""(namespace, name)."""


class StatusReporter:
    """An async context manager: inside it statuses are written; leaving it drops what still waits."""

    def __init__(self, node: str, directory: Directory, writer: InstanceWriter, clock: Clock) -> None:
        self._node = node
        self._directory = directory
        self._writer = writer
        self._clock = clock
        self._tasks = Tasks()
        self._waiting: dict[Agent, HostStatus] = {}
        self._wake = asyncio.Event()
        self._listeners: list[Callable[[Sequence[HostStatus]], None]] = []

    async def __aenter__(self) -> Self:
        self._tasks.start(self._write_batches(), "statuses")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    def subscribe(self, listener: Callable[[Sequence[HostStatus]], None]) -> None:
        """Calls `listener` with every report, before it is written."""
        self._listeners.append(listener)

    def report(self, statuses: Sequence[HostStatus]) -> None:
        """Returns at once; what is reported later for an agent replaces this."""
        for status in statuses:
            self._waiting[status.namespace, status.name] = status
        self._wake.set()
        for listener in self._listeners:
            listener(statuses)

    async def _write_batches(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = self._take()
                try:
                    await self._writer.put_statuses(list(self._current(batch)))
                except Temporary as error:
                    failures += 1
                    log.warning("%d statuses wait, the log cannot be reached: %s", len(self._waiting), error)
                    for status in batch:
                        self._waiting.setdefault((status.namespace, status.name), status)
                    await self._clock.sleep(RECONNECT.delay_s(failures, random.random()))
                else:
                    failures = 0

    def _take(self) -> list[HostStatus]:
        keys = list(self._waiting)[:BATCH_WRITES_MAX]
        return [self._waiting.pop(key) for key in keys]

    def _current(self, batch: Iterable[HostStatus]) -> Iterable[tuple[str, str, StatusRecord]]:
        for status in batch:
            instance = self._directory.find(status.namespace, status.name)
            if instance is None:
                continue
            record = instance.record
            if (record.node, record.uid, record.binding) != (self._node, status.uid, status.binding):
                continue
            yield status.namespace, status.name, status_record(status)


def status_record(status: HostStatus) -> StatusRecord:
    return StatusRecord(
        VERSION,
        status.uid,
        status.binding,
        status.phase,
        status.ready,
        status.host,
        status.restarts,
        status.since_ms,
        status.reason,
        status.message,
        status.capabilities,
    )
