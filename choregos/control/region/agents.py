"""The instance plane as the region's leader writes it: in batches, fenced, and counted before it is written.

Invariants: between a plan and the directory's echo of its writes, the census holds what was planned, so no two plans
share a place, and nobody else writes the same agents; a write that failed is taken out again, at once or, if nobody
knows whether it did, when its author comes again and has looked. After a write has returned the directory shows it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from choregos.control.loop import Key
from choregos.control.region.census import Census
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Conflict, Deposed, Temporary
from choregos.store.directory import Directory
from choregos.store.instance import Instance
from choregos.store.instances import InstanceWriter
from choregos.store.port import BATCH_WRITES_MAX, Fence
from choregos.wire.instances import AgentRecord, TemplateRecord

log = logging.getLogger(__name__)

AgentWrite = tuple[str, str, AgentRecord]
"""(namespace, name, record)."""


class FencedAgents:
    """Reads and fenced writes of agents. All writes raise `Conflict`, `Deposed` and `Temporary`.

    The author of a write is the key whose reconciliation it belongs to.
    """

    def __init__(
        self, directory: Directory, writer: InstanceWriter, fence: Fence, census: Census, clock: Clock
    ) -> None:
        self.directory = directory
        self.census = census
        self._writer = writer
        self._fence = fence
        self._clock = clock
        self._templates = asyncio.Lock()
        self._unsure: dict[Key, list[AgentWrite]] = {}  # author → writes that may or may not have happened

    async def settle(self, author: Key) -> None:
        """Finds out what became of an author's writes whose outcome was unknown.

        Args:
            author: the key whose reconciliation begins; each has to call this first.
        """
        unsure = self._unsure.get(author)
        if unsure:
            newest = await self._writer.newest([(namespace, name) for namespace, name, _ in unsure])
            await self.directory.wait_for(newest)
            del self._unsure[author]
            self._settle_all(unsure)

    async def put_template(self, namespace: str, template: TemplateRecord) -> None:
        """Stores a template unless the directory has it."""
        async with self._templates:
            known = self.directory.templates.get((namespace, template.digest))
            if known is None or not known.revision:
                await self._writer.put_templates([(namespace, template)], self._fence)
                await self._seen()

    async def remove_templates(self, used: Callable[[], set[tuple[str, str]]]) -> None:
        """Removes templates whose (namespace, digest) is not among the `used` ones."""
        # Nobody may find a template here, rely on it, and lose it: so no other is stored meanwhile.
        async with self._templates:
            kept = used()
            for template in [one for key, one in self.directory.templates.items() if one.revision and key not in kept]:
                try:
                    await self._writer.remove_template(template, self._fence)
                except Deposed:
                    raise
                except Conflict as error:  # another record of it; the others do not wait for the next sweep
                    log.info("template %s of %s stays for now: %s", template.digest, template.namespace, error)
            await self._seen()

    async def remove_stray_statuses(self) -> None:
        """Removes statuses that came after their agents' end. Costs nothing where there are none."""
        for namespace, name in self.directory.strays():
            try:
                await self._writer.remove_stray_status(namespace, name, self._fence)
            except Deposed:
                raise
            except Conflict:
                continue  # something is written about an agent of that name; the next sweep looks again
        await self._seen()

    async def create(self, author: Key, agents: Sequence[AgentWrite]) -> int:
        """Creates agents where none of their names exist; returns how many it made."""
        for namespace, name, record in agents:
            self.census.expect(namespace, name, record)
        made = 0
        for start in range(0, len(agents), BATCH_WRITES_MAX):
            batch = agents[start : start + BATCH_WRITES_MAX]
            try:
                existed = await self._writer.create_agents(batch, self._fence)
            except Exception as error:
                self._failed(author, error, agents[start:])
                raise
            taken = set(existed)
            self._settle_all(agent for agent in batch if agent[:2] in taken)
            made += len(batch) - len(existed)
        await self._seen()
        return made

    async def update(self, author: Key, agents: Sequence[tuple[Instance, AgentRecord]]) -> None:
        """Replaces agent records; of those that changed meanwhile none of their batch."""
        for instance, _ in agents:
            now = self.directory.find(*instance.key)
            stale = now is None or now.record_revision != instance.record_revision
            if stale or self.census.is_expected(Key(*instance.key)):
                raise Conflict(f"agent {instance.namespace}/{instance.name} changes at the same time")
        for instance, record in agents:
            self.census.expect(instance.namespace, instance.name, record, instance.record_revision)
        for start in range(0, len(agents), BATCH_WRITES_MAX):
            try:
                await self._writer.update_agents(agents[start : start + BATCH_WRITES_MAX], self._fence)
            except Exception as error:
                self._failed(author, error, [(*instance.key, record) for instance, record in agents[start:]])
                raise
        await self._seen()

    async def begin_deletion(self, author: Key, instances: Iterable[Instance], grace_s: int) -> int:
        """Has agents drain; those that no node can drain are removed at once. Returns how many.

        Args:
            grace_s: from when the deletion began; for those that are leaving already, shorter than they have.
        """
        bound, homeless = [], []
        now_ms = self._clock.wall_ms()
        for instance in instances:
            if instance.record.node:
                began_ms = instance.record.deletion_ms or now_ms
                bound.append((instance, replace(instance.record, deletion_ms=began_ms, grace_s=grace_s)))
            else:
                homeless.append(instance)
        if homeless:
            await self.remove(homeless)
        if bound:
            await self.update(author, bound)
        return len(bound) + len(homeless)

    async def remove(self, instances: Sequence[Instance]) -> None:
        """Removes the records of agents that have ended."""
        await self._writer.remove_agents(instances, self._fence)
        await self._seen()

    async def _seen(self) -> None:
        await self.directory.wait_for(self._writer.revision)

    def _failed(self, author: Key, error: Exception, left: Sequence[AgentWrite]) -> None:
        """The first batch of those left failed, and the others were not sent."""
        unsure = left[:BATCH_WRITES_MAX] if isinstance(error, Temporary) else ()
        if unsure:
            self._unsure.setdefault(author, []).extend(unsure)
        self._settle_all(left[len(unsure) :])

    def _settle_all(self, agents: Iterable[AgentWrite]) -> None:
        for namespace, name, record in agents:
            self.census.settle(namespace, name, record, self.directory.find(namespace, name))
