"""Removes what nothing refers to any more: agent templates, and statuses of agents that are gone.

Invariants: a template stays as long as an agent has it or a set makes agents from it; a status, as long as there is
an agent of its name. Agents without a set are `sets`' to end.
"""

from __future__ import annotations

from collections.abc import Iterable

from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import SETS, FencedObjects
from choregos.control.region.agents import FencedAgents
from choregos.control.region.history import History
from choregos.resources.templates import digest

SWEEP = Key("", "sweep")
"""The only key of this reconciler."""


class RegionGarbage:
    """Runs at each scan of its controller."""

    name = "region garbage"

    def __init__(self, objects: FencedObjects, agents: FencedAgents, history: History) -> None:
        self._objects = objects
        self._agents = agents
        self._history = history

    def keys(self) -> Iterable[Key]:
        return (SWEEP,)

    async def reconcile(self, key: Key) -> Result:
        await self._agents.remove_templates(self._used)
        await self._agents.remove_stray_statuses()
        return DONE

    def _used(self) -> set[tuple[str, str]]:
        used = {(agent.namespace, agent.record.template) for agent in self._agents.directory.list()}
        for agent_set in self._objects.list(SETS):
            used.add((agent_set["metadata"]["namespace"], digest(self._history.current(agent_set))))
        return used
