"""The instance plane as the region's leader writes it: in batches, fenced, and counted before it is written.

Invariant: between a plan and the directory's echo of its writes, the census holds what was planned, so no two plans
share a place; a write that failed is taken out again. After a write has returned the directory shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from choregos.control.loop import Key
from choregos.control.region.census import Census
from choregos.foundation.clock import Clock
from choregos.foundation.errors import ChoregosError, Temporary
from choregos.store.directory import Directory
from choregos.store.instance import Instance
from choregos.store.instances import InstanceWriter
from choregos.store.port import BATCH_WRITES_MAX, Fence
from choregos.wire.instances import AgentRecord, TemplateRecord

NewAgent = tuple[str, str, AgentRecord]
"""(namespace, name, record)."""


class FencedAgents:
    """Reads and fenced writes of agents. All writes raise `Conflict`, `Deposed` and `Temporary`."""

    def __init__(
        self, directory: Directory, writer: InstanceWriter, fence: Fence, census: Census, clock: Clock
    ) -> None:
        self.directory = directory
        self.census = census
        self._writer = writer
        self._fence = fence
        self._clock = clock
        self._templates = asyncio.Lock()
        self._unsure: dict[Key, list[Key]] = {}  # set → its agents whose creation may or may not have happened

    def settle(self, set_key: Key) -> None:
        """Gives up what was expected of creations whose outcome was unknown: by now the directory would show them."""
        for agent in self._unsure.pop(set_key, ()):
            self._settle(agent)

    async def put_template(self, namespace: str, template: TemplateRecord) -> None:
        """Stores a template unless the directory has it."""
        async with self._templates:
            known = self.directory.templates.get((namespace, template.digest))
            if known is None or not known.revision:
                await self._writer.put_templates([(namespace, template)], self._fence)
                await self._seen()

    async def remove_templates(self, used: Callable[[], set[tuple[str, str]]]) -> int:
        """Removes templates whose (namespace, digest) is not among the `used` ones; returns how many."""
        # Nobody may find a template here, rely on it, and lose it: so no other is stored meanwhile.
        async with self._templates:
            kept = used()
            unused = [template for key, template in self.directory.templates.items() if key not in kept]
            for template in unused:
                await self._writer.remove_template(template, self._fence)
            await self._seen()
            return len(unused)

    async def create(self, set_key: Key, agents: Sequence[NewAgent]) -> int:
        """Creates agents of one set where none of their names exist; returns how many it made."""
        for namespace, name, record in agents:
            self.census.expect(namespace, name, record)
        made = 0
        for start in range(0, len(agents), BATCH_WRITES_MAX):
            batch = agents[start : start + BATCH_WRITES_MAX]
            try:
                existed = await self._writer.create_agents(batch, self._fence)
            except ChoregosError as error:
                unknown = len(batch) if isinstance(error, Temporary) else 0
                left = [Key(namespace, name) for namespace, name, _ in agents[start:]]
                self._unsure.setdefault(set_key, []).extend(left[:unknown])
                self._settle_all(left[unknown:])
                raise
            self._settle_all(Key(*agent) for agent in existed)
            made += len(batch) - len(existed)
        await self._seen()
        return made

    async def update(self, agents: Sequence[tuple[Instance, AgentRecord]]) -> None:
        """Replaces agent records; of those that changed meanwhile none of their batch."""
        for instance, record in agents:
            self.census.expect(instance.namespace, instance.name, record)
        for start in range(0, len(agents), BATCH_WRITES_MAX):
            try:
                await self._writer.update_agents(agents[start : start + BATCH_WRITES_MAX], self._fence)
            except ChoregosError:
                self._settle_all(Key(*instance.key) for instance, _ in agents[start:])
                raise
        await self._seen()

    async def begin_deletion(self, instances: Iterable[Instance], grace_s: int) -> int:
        """Has agents drain; those that no node can drain are removed at once. Returns how many.

        Args:
            instances: not leaving yet.
        """
        bound, homeless = [], []
        now_ms = self._clock.wall_ms()
        for instance in instances:
            if instance.record.node:
                bound.append((instance, replace(instance.record, deletion_ms=now_ms, grace_s=grace_s)))
            else:
                homeless.append(instance)
        if homeless:
            await self.remove(homeless)
        if bound:
            await self.update(bound)
        return len(bound) + len(homeless)

    async def remove(self, instances: Sequence[Instance]) -> None:
        """Removes the records of agents that have ended."""
        await self._writer.remove_agents(instances, self._fence)
        await self._seen()

    async def _seen(self) -> None:
        await self.directory.wait_for(self._writer.revision)

    def _settle_all(self, agents: Iterable[Key]) -> None:
        for agent in agents:
            self._settle(agent)

    def _settle(self, agent: Key) -> None:
        self.census.settle(agent.namespace, agent.name, self.directory.find(agent.namespace, agent.name))
