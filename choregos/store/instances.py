"""Writes of the instance plane, in batches.

Invariants: an agent record is created only where none is and changed only as it was read, both under the leader's
fence; statuses and deletion requests overwrite. A batch is at most `BATCH_WRITES_MAX` writes, each all or nothing;
when a later batch fails the earlier ones stay, and a level-triggered caller looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TypeGuard, TypeVar

import msgspec

from choregos.foundation.errors import Conflict, Deposed
from choregos.store.instance import Instance, Key, Template
from choregos.store.port import BATCH_WRITES_MAX, Fence, Record, RecordLog, Write
from choregos.store.resources import TOMBSTONE_TTL_S
from choregos.wire import subjects
from choregos.wire.instances import AgentRecord, DeletionRecord, StatusRecord, TemplateRecord

CREATE_ATTEMPTS_MAX = 5

DELETION_TTL_S = 3600
"""So a request that comes after its agent has gone, which nobody acts on, is not kept for ever."""

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode


class InstanceWriter:
    """Writes to one region's log.

    Attributes:
        revision: sequence of the newest record this writer has stored: `await directory.wait_for(writer.revision)`
            makes a reader see all of them.
    """

    def __init__(self, log: RecordLog, region: str) -> None:
        self._log = log
        self._region = region
        self.revision = 0

    async def put_templates(self, templates: Sequence[tuple[str, TemplateRecord]], fence: Fence) -> None:
        """Stores (namespace, template) where they are missing; there can be no other of the same digest.

        Raises:
            Deposed: the fence is over.
            Temporary: the log cannot be reached; some may have been stored. The same holds for every method here.
        """
        for namespace, template in templates:
            subject = subjects.template_subject(self._region, namespace, template.digest)
            await self._create([Write(subject, _encode(template), expected=0)], fence)

    async def remove_template(self, template: Template, fence: Fence) -> None:
        """Removes a template that no agent has.

        Raises:
            Conflict: it was removed or stored anew meanwhile.
            Deposed: the fence is over.
        """
        subject = subjects.template_subject(self._region, template.namespace, template.digest)
        write = Write(subject, b"", expected=template.revision, tombstone=True, ttl_s=TOMBSTONE_TTL_S)
        self._stored([await self._log.append(write, fence=fence)])

    async def create_agents(
        self, agents: Sequence[tuple[str, str, AgentRecord]], fence: Fence
    ) -> list[tuple[str, str]]:
        """Stores (namespace, name, record); returns (namespace, name) of those that existed and were left alone.

        Raises:
            Deposed: the fence is over.
            Conflict: somebody else keeps creating and removing agents of these names.
        """
        existed = []
        for part in _batches(agents, BATCH_WRITES_MAX):
            keys = {subjects.agent_subject(self._region, agent[0], agent[1]): agent[:2] for agent in part}
            writes = [Write(subject, _encode(agent[2]), expected=0) for subject, agent in zip(keys, part, strict=True)]
            existed += [keys[subject] for subject in await self._create(writes, fence)]
        return existed

    async def newest(self, agents: Sequence[Key]) -> int:
        """Sequence of the newest agent record of these names, tombstones included; 0 if there is none.

        After a write of unknown outcome: a reader that is this far shows whether it was stored.
        """
        names = [subjects.agent_subject(self._region, namespace, name) for namespace, name in agents]
        found = await asyncio.gather(*map(self._log.last, names))
        return max((record.sequence for record in found if record is not None), default=0)

    async def update_agents(self, agents: Sequence[tuple[Instance, AgentRecord]], fence: Fence) -> None:
        """Replaces the agent records of instances by new ones.

        Raises:
            Conflict: one of them has changed since it was read; then none of its batch is written.
            Deposed: the fence is over.
        """
        for part in _batches(agents, BATCH_WRITES_MAX):
            writes = [
                Write(self._agent(instance), _encode(record), expected=instance.record_revision)
                for instance, record in part
            ]
            self._stored(await self._log.append_batch(writes, fence=fence))

    async def remove_agents(self, instances: Sequence[Instance], fence: Fence) -> None:
        """Removes agents with their statuses and deletion requests.

        Raises: as `update_agents`.
        """
        for part in _batches(instances, BATCH_WRITES_MAX // 3):
            writes = [write for instance in part for write in self._removal(instance)]
            self._stored(await self._log.append_batch(writes, fence=fence))

    def _removal(self, instance: Instance) -> Iterator[Write]:
        namespace, name = instance.key
        yield Write(
            self._agent(instance), b"", expected=instance.record_revision, tombstone=True, ttl_s=TOMBSTONE_TTL_S
        )
        # Always: there may be one that does not count because it speaks of an earlier binding.
        yield Write(subjects.status_subject(self._region, namespace, name), b"", tombstone=True, ttl_s=TOMBSTONE_TTL_S)
        if instance.deletion is not None:
            subject = subjects.deletion_subject(self._region, namespace, name)
            yield Write(subject, b"", tombstone=True, ttl_s=TOMBSTONE_TTL_S)

    async def put_statuses(self, statuses: Sequence[tuple[str, str, StatusRecord]]) -> None:
        """Stores (namespace, name, status); of several for one agent the last.

        A status overwrites that of any other binding, so a node writes only of agents that are bound to it now, and
        writes again what it finds overwritten.
        """
        latest: dict[Key, StatusRecord] = {(namespace, name): status for namespace, name, status in statuses}
        writes = [
            Write(subjects.status_subject(self._region, namespace, name), _encode(status))
            for (namespace, name), status in latest.items()
        ]
        for part in _batches(writes, BATCH_WRITES_MAX):
            self._stored(await self._log.append_batch(part))

    async def remove_stray_status(self, namespace: str, name: str, fence: Fence) -> bool:
        """Removes a status that speaks of no agent; False if it is gone already, or one exists.

        A node's last word may come after its agent's tombstone, and nobody would ever overwrite it. A status is
        written after the record of its agent. So if the status is read first, and then there is no record, the agent
        it speaks of is gone, and can never come again. One written meanwhile is another, and stays.

        Raises:
            Conflict: it was overwritten meanwhile.
            Deposed: the fence is over.
        """
        subject = subjects.status_subject(self._region, namespace, name)
        status = await self._log.last(subject)
        if not _exists(status) or _exists(await self._log.last(subjects.agent_subject(self._region, namespace, name))):
            return False
        write = Write(subject, b"", expected=status.sequence, tombstone=True, ttl_s=TOMBSTONE_TTL_S)
        self._stored([await self._log.append(write, fence=fence)])
        return True

    async def request_deletion(self, namespace: str, name: str, deletion: DeletionRecord) -> None:
        """Asks the region's leader to delete one agent; a request that it has not acted on for an hour is void."""
        subject = subjects.deletion_subject(self._region, namespace, name)
        self._stored([await self._log.append(Write(subject, _encode(deletion), ttl_s=DELETION_TTL_S))])

    def _agent(self, instance: Instance) -> str:
        return subjects.agent_subject(self._region, instance.namespace, instance.name)

    async def _create(self, writes: Sequence[Write], fence: Fence) -> list[str]:
        """Stores those whose subject has no record; returns the subjects of the others."""
        existed: list[str] = []
        for _ in range(CREATE_ATTEMPTS_MAX):
            try:
                if writes:
                    self._stored(await self._log.append_batch(writes, fence=fence))
            except Deposed:
                raise
            except Conflict:
                # Some exist, or left a tombstone, which may expire at any moment.
                found = await asyncio.gather(*(self._log.last(write.subject) for write in writes))
                pairs = list(zip(writes, found, strict=True))
                existed += [write.subject for write, last in pairs if _exists(last)]
                writes = [_replacing(write, last) for write, last in pairs if not _exists(last)]
            else:
                return existed
        raise Conflict(f"{writes[0].subject} and others keep changing")

    def _stored(self, sequences: Sequence[int]) -> None:
        self.revision = max(self.revision, sequences[-1])


def _exists(record: Record | None) -> TypeGuard[Record]:
    return record is not None and not record.tombstone


def _replacing(write: Write, tombstone: Record | None) -> Write:
    return Write(write.subject, write.data, expected=0 if tombstone is None else tombstone.sequence)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
