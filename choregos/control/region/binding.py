"""Gives a node to agents that need one: they have none, theirs is lost, refuses them, or drives them out.

One key for the whole region: every pass plans all such agents together, so that what little room there is goes to the
oldest request first and a thousand waiting agents cost one plan. Invariants: a new node is a new binding, so that
nothing an old node says counts any more; an agent without a node says why; one that leaves a lost node is removed,
because nobody is left to drain it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from choregos.control.events import EventRecorder
from choregos.control.loop import DONE, Key, Result
from choregos.control.region.agents import FencedAgents
from choregos.control.region.placing import UNSCHEDULABLE, Placer, Wanted
from choregos.control.region.roster import Roster
from choregos.foundation.clock import Clock
from choregos.resources.events import NORMAL, WARNING, reference
from choregos.scheduling.placement import Placement
from choregos.store.instance import Instance
from choregos.wire.instances import AgentRecord, Phase

HOMELESS = Key("", "homeless")
"""The only key of this reconciler."""

TRY_AGAIN_S = 10.0
"""Agents without a node are planned anew at least this often, and why they have none is written at most this often: it
changes with every placement elsewhere."""

EVICTION_SCAN_S = 1.0


@dataclass(frozen=True, slots=True)
class Homeless:
    """Agents of one set and template that need a node for the same reason.

    Attributes:
        reason, message: why they lost their node; empty if they never had one.
    """

    wanted: Wanted
    instances: tuple[Instance, ...]
    reason: str
    message: str


class BindingReconciler:
    """Drives the one key `HOMELESS`."""

    name = "bindings"

    def __init__(
        self, agents: FencedAgents, placer: Placer, roster: Roster, events: EventRecorder, clock: Clock
    ) -> None:
        self._agents = agents
        self._placer = placer
        self._roster = roster
        self._events = events
        self._clock = clock
        self._explained_at = float("-inf")

    def keys(self) -> Iterable[Key]:
        return (HOMELESS,)

    async def reconcile(self, key: Key) -> Result:
        await self._agents.settle(key)
        await self._remove_unreachable()
        groups = self._groups()
        if not groups:
            return self._later()
        explain = self._clock.monotonic() - self._explained_at >= TRY_AGAIN_S
        changes: list[tuple[Instance, AgentRecord]] = []
        unplaced = 0
        placements = self._placer.place([group.wanted for group in groups])
        for group, placement in zip(groups, placements, strict=True):
            changes += self._bind(group, placement, explain=explain)
            unplaced += placement.unplaced
            self._tell(group, placement)
        if explain:
            self._explained_at = self._clock.monotonic()
        if changes:
            await self._agents.update(key, changes)
        return Result(TRY_AGAIN_S) if unplaced else self._later()

    def _later(self) -> Result:
        """When to look again although nothing happened: some taints are tolerated for a while only."""
        tainted = any(self._roster.drives_out(node) for node in self._agents.census.nodes())
        return Result(EVICTION_SCAN_S) if tainted else DONE

    async def _remove_unreachable(self) -> None:
        """Agents that were to drain on a node that is lost: there is nothing left to wait for."""
        for node in self._agents.census.nodes():
            if not self._roster.present(node):
                left = [one for one in self._agents.directory.on_node(node) if one.record.deletion_ms]
                if left:
                    await self._agents.remove(left)

    def _groups(self) -> list[Homeless]:
        """Who needs a node, those waiting longest first."""
        by_group: dict[tuple[Key, str, str, str, str], list[Instance]] = {}
        for one, reason, message in self._needy():
            set_key = Key(one.namespace, one.record.agent_set)
            group = (set_key, one.record.agent_set_uid, one.record.template, reason, message)
            by_group.setdefault(group, []).append(one)
        groups = []
        for (set_key, uid, template, reason, message), members in by_group.items():
            members.sort(key=lambda one: (one.record.created_ms, one.name))
            wanted = Wanted(set_key, uid, template, len(members))
            groups.append(Homeless(wanted, tuple(members), reason, message))
        groups.sort(key=lambda group: (group.instances[0].record.created_ms, group.wanted.set_key))
        return groups

    def _needy(self) -> Iterator[tuple[Instance, str, str]]:
        """Each with the reason and message of its loss; agents that are leaving need nothing."""
        directory = self._agents.directory
        for agent in list(self._agents.census.homeless):
            one = directory.find(agent.namespace, agent.name)
            if one is None or one.record.deletion_ms:
                continue
            if not one.record.node:
                yield one, "", ""
            elif one.status is not None and one.status.phase is Phase.REJECTED:
                self._roster.refuses(one.record.node)
                yield one, one.status.reason, f"{one.record.node} refuses it: {one.status.message}"
        for node in self._agents.census.nodes():
            if not self._roster.present(node):
                for one in directory.on_node(node):
                    if not one.record.deletion_ms and one.phase is not Phase.REJECTED:
                        yield one, "NodeLost", f"{node} is lost"
            elif self._roster.drives_out(node):
                for one in directory.on_node(node):
                    taint = self._roster.evicted_by(node, self._placer.needs(one))
                    if taint is not None and not one.record.deletion_ms and one.phase is not Phase.REJECTED:
                        yield one, "Evicted", f"{node} has taint {taint}"

    def _bind(self, group: Homeless, placement: Placement, *, explain: bool) -> Iterator[tuple[Instance, AgentRecord]]:
        message = f"{group.message}; {placement.message}" if group.message else placement.message
        for index, one in enumerate(group.instances):
            record = one.record
            if index < len(placement.nodes):
                node = placement.nodes[index]
                yield one, replace(record, node=node, binding=record.binding + 1, reason="", message="")
            elif record.node:
                reason = group.reason or UNSCHEDULABLE
                yield one, replace(record, node="", binding=record.binding + 1, reason=reason, message=message)
            elif explain and record.message != message:
                yield one, replace(record, reason=UNSCHEDULABLE, message=message)

    def _tell(self, group: Homeless, placement: Placement) -> None:
        if not group.reason:
            return
        about = reference(
            "AgentSet", group.wanted.set_key.name, namespace=group.wanted.set_key.namespace, uid=group.wanted.set_uid
        )
        placed, count = len(placement.nodes), len(group.instances)
        text = f"{group.message}: {placed} of {count} agents go to other nodes"
        self._events.record_reference(about, "Rebound", text, type=WARNING if placed < count else NORMAL)
