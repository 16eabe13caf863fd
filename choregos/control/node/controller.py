"""Puts the node's parts together: lease, AgentNode, assignments, statuses.

Invariant: the lease is held before the node shows itself, so a node that others can see is alive; it is the last to
go. If another process takes the lease of the same name, this one says so through `superseded` and its owner ends it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from choregos.control.node.agent_node import NodeObject, NodeSettings
from choregos.control.node.assignments import Assignments, Host
from choregos.control.node.capacity import find_capacity
from choregos.control.node.statuses import StatusReporter
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Temporary
from choregos.foundation.ids import IdSource
from choregos.foundation.tasks import Tasks
from choregos.store.directory import Directory
from choregos.store.leases.heartbeat import Heartbeat
from choregos.store.port import RecordLog
from choregos.store.resources import ResourceStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeStores:
    """What a node reads and writes.

    Attributes:
        log: of the region; `directory` is this log's.
    """

    resources: ResourceStore
    log: RecordLog
    directory: Directory


class NodeController:
    """Runs this machine's part; an async context manager.

    Args:
        host: open already, and reporting to `statuses`; it outlives this controller.
        statuses: open already.

    Attributes:
        superseded: set when another process has taken this node's lease; this one should end.
    """

    def __init__(
        self,
        settings: NodeSettings,
        stores: NodeStores,
        host: Host,
        statuses: StatusReporter,
        *,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self.superseded = asyncio.Event()
        self._settings = settings
        self._clock = clock
        self._capacity = find_capacity(settings.declared)
        self._object = NodeObject(settings, self._capacity, stores.resources, clock, ids)
        self._assignments = Assignments(settings.name, stores.directory, host, statuses, clock)
        self._heartbeat = Heartbeat(
            stores.log,
            settings.region,
            f"node-{settings.name}",
            settings.boot_id,
            clock,
            period_s=settings.heartbeat_period_s,
            duration_s=settings.heartbeat_duration_s,
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._heartbeat)
            self._assignments.open(self._capacity.allocatable)
            stack.callback(self._assignments.close)
            await self._write_object()
            tasks = await stack.enter_async_context(Tasks())
            tasks.start(self._refresh(), f"node-{self._settings.name}")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _refresh(self) -> None:
        while True:
            await self._clock.sleep(self._settings.refresh_s)
            if self._heartbeat.superseded:
                self.superseded.set()
                return
            try:
                self._assignments.rescan()
                await self._write_object()
            except Temporary as error:
                log.info("the figures of this node wait: %s", error)
            except Exception:  # this is what repairs; it must not be what ends
                log.exception("node %s could not be refreshed", self._settings.name)

    async def _write_object(self) -> None:
        await self._object.write(self._assignments.count, self._assignments.allocated())
