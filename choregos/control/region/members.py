"""The agents of one set: made, chosen for deletion, drained, removed.

Invariants: an agent's name is its set's and the lowest free ordinal, written only where no record is, so a repeated
creation is a conflict and never a twin; who is not ready goes before who is, and higher ordinals before lower. It
does not decide how many: `sets` and the rollout planner do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from typing import Any

from choregos.control.loop import Key
from choregos.control.region.agents import AgentWrite, FencedAgents
from choregos.control.region.census import LEAVING, READY, Tally
from choregos.control.region.placing import UNSCHEDULABLE, Placer, Wanted
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Conflict
from choregos.foundation.ids import IdSource
from choregos.resources.kind import ReadOnlyObject
from choregos.resources.templates import canonical_digest, grace_s
from choregos.scheduling.rollout import Step
from choregos.store.instance import Instance
from choregos.wire.instances import VERSION, AgentRecord, TemplateRecord

CREATED_PER_PASS_MAX = 10_000
"""A larger set is made in several passes, so that others get their turn and records are not all held at once."""


class SetMembers:
    """See the module. All methods raise what `FencedAgents` raises."""

    def __init__(self, agents: FencedAgents, placer: Placer, clock: Clock, ids: IdSource) -> None:
        self._agents = agents
        self._placer = placer
        self._clock = clock
        self._ids = ids

    async def declare(self, namespace: str, template: Mapping[str, Any]) -> str:
        """Stores a template if it is new; returns its digest."""
        digest, encoded = canonical_digest(template)
        self._placer.learn(digest, template)
        await self._agents.put_template(namespace, TemplateRecord(VERSION, digest, encoded))
        return digest

    def templates(self, tally: Tally) -> Iterator[Mapping[str, Any]]:
        """What the agents of a set are made from, those leaving not counted."""
        for digest in dict.fromkeys(digest for digest, _ in tally.states):
            template = self._agents.directory.templates.get((tally.key.namespace, digest))
            if template is not None:
                yield template.spec

    async def create(self, agent_set: ReadOnlyObject, digest: str, number: int) -> tuple[int, str]:
        """Makes up to `number` agents, each bound to a node or saying why not.

        Returns:
            How many were made, and why some have no node; empty if all have one.

        Raises:
            Conflict: none could be made, because records of these names exist that the directory does not show yet.
        """
        metadata = agent_set["metadata"]
        set_key = Key(metadata["namespace"], metadata["name"])
        number = min(number, CREATED_PER_PASS_MAX)
        (placement,) = self._placer.place([Wanted(set_key, metadata["uid"], digest, number)])
        agents: list[AgentWrite] = []
        now_ms = self._clock.wall_ms()
        for index, name in enumerate(islice(self._free_names(set_key), number)):
            bound = index < len(placement.nodes)
            record = AgentRecord(
                VERSION,
                self._ids.uid(),
                set_key.name,
                metadata["uid"],
                digest,
                placement.nodes[index] if bound else "",
                1 if bound else 0,
                now_ms,
                reason="" if bound else UNSCHEDULABLE,
                message="" if bound else placement.message,
            )
            agents.append((set_key.namespace, name, record))
        made = await self._agents.create(set_key, agents)
        if not made:
            raise Conflict(f"agents of the names that are next for {set_key} exist already")
        return made, placement.message

    async def delete(self, agent_set: ReadOnlyObject, digest: str, step: Step) -> int:
        """Begins the deletion of as many of each sort as the step says; returns how many.

        Sorts are the census's, as the step's are: what the directory does not show yet counts as in the plan.
        """
        quota = {
            (True, True): step.delete_new_ready,
            (True, False): step.delete_new_unready,
            (False, True): step.delete_old_ready,
            (False, False): step.delete_old_unready,
        }
        metadata = agent_set["metadata"]
        set_key = Key(metadata["namespace"], metadata["name"])
        chosen = []
        for one in sorted(self._members(metadata["uid"]), key=_ordinal, reverse=True):
            facts = self._agents.census.facts(Key(*one.key))
            if facts is None or facts.state == LEAVING:
                continue
            sort = (facts.template == digest, facts.state == READY)
            if quota[sort]:
                quota[sort] -= 1
                chosen.append(one)
        return await self._agents.begin_deletion(set_key, chosen, grace_s(agent_set["spec"]["template"]))

    async def delete_requested(self, tally: Tally) -> int:
        """Begins the deletion of agents that somebody asked to delete, or leaves them less time; returns how many."""
        by_grace: dict[int, list[Instance]] = {}
        for one in self._find(tally.key, tally.requested):
            if one.deletion is not None and (not one.record.deletion_ms or one.deletion.grace_s < one.record.grace_s):
                by_grace.setdefault(one.deletion.grace_s, []).append(one)
        return sum([await self._agents.begin_deletion(tally.key, group, grace) for grace, group in by_grace.items()])

    async def drain(self, tally: Tally) -> int:
        """Begins the deletion of all agents of a set that is going; returns how many."""
        staying = [one for one in self._members(tally.uid) if not one.record.deletion_ms]
        if not staying:
            return 0
        return await self._agents.begin_deletion(tally.key, staying, grace_s(staying[0].template.spec))

    async def end(self, tally: Tally) -> int:
        """Leaves the agents of a set that is gone no time, whatever they were given; returns how many had some.

        Nobody waits for them any more, and no quota counts them.
        """
        having = [one for one in self._members(tally.uid) if not one.record.deletion_ms or one.record.grace_s]
        return await self._agents.begin_deletion(tally.key, having, 0) if having else 0

    async def remove_finished(self, tally: Tally) -> int:
        """Removes the records of agents that have drained; returns how many."""
        finished = [one for one in self._find(tally.key, tally.finished) if one.record.deletion_ms]
        if finished:
            await self._agents.remove(finished)
        return len(finished)

    def _members(self, set_uid: str) -> Iterable[Instance]:
        return self._agents.directory.of_set(set_uid)

    def _find(self, set_key: Key, names: Iterable[str]) -> Iterator[Instance]:
        for name in sorted(names):
            found = self._agents.directory.find(set_key.namespace, name)
            if found is not None:
                yield found

    def _free_names(self, set_key: Key) -> Iterator[str]:
        taken: set[str] = set()
        for tally in self._agents.census.tallies(set_key).values():
            taken |= tally.names
        names = (f"{set_key.name}-{ordinal}" for ordinal in count())
        return (name for name in names if name not in taken) if taken else names


def _ordinal(instance: Instance) -> int:
    return int(instance.name.rpartition("-")[2])
