"""Lets a set go whose deletion nobody works on.

A set being deleted is held until its region has drained its agents. Where nobody controls that region any more it
would be held for ever, its cluster and its namespace with it, and whoever asked for the deletion could only take the
finalizer off by hand. So a set whose record has not changed for the time its agents may take to drain and a minute
more is let go, with an event. Nothing of it is forgotten: its agents' records are in the region's log, and whoever
controls the region next finds agents without a set, and ends them.

Invariant: a set is given up only after this leader itself has seen nothing change for all that time; a region that is
at work changes it with every few agents that end.
"""

from __future__ import annotations

from collections.abc import Iterable

from choregos.control.events import EventRecorder
from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import SETS, FencedObjects
from choregos.foundation.clock import Clock
from choregos.resources import meta
from choregos.resources.events import WARNING
from choregos.resources.kind import ReadOnlyObject
from choregos.resources.templates import grace_s

PATIENCE_S = 60.0
"""Beyond the agents' own time to drain: longer than a region takes to find a new leader, or a node to be given up."""


class AbandonedSets:
    """Watches over one AgentSet per key while it is being deleted."""

    name = "abandoned sets"

    def __init__(self, objects: FencedObjects, events: EventRecorder, clock: Clock) -> None:
        self._objects = objects
        self._events = events
        self._clock = clock
        self._seen: dict[Key, tuple[str, float]] = {}  # resourceVersion, and when it was first seen

    def keys(self) -> Iterable[Key]:
        for agent_set in self._objects.list(SETS):
            if is_held(agent_set):
                yield Key(agent_set["metadata"]["namespace"], agent_set["metadata"]["name"])

    async def reconcile(self, key: Key) -> Result:
        agent_set = self._objects.find(SETS, key.namespace, key.name)
        if agent_set is None or not is_held(agent_set):
            self._seen.pop(key, None)
            return DONE
        version, now = agent_set["metadata"]["resourceVersion"], self._clock.monotonic()
        if key not in self._seen or self._seen[key][0] != version:
            self._seen[key] = version, now
        patience_s = grace_s(agent_set["spec"]["template"]) + PATIENCE_S
        left_s = self._seen[key][1] + patience_s - now
        if left_s > 0:
            return Result(left_s)
        await self._objects.release(SETS, agent_set, meta.AGENTS_FINALIZER)
        region = agent_set["spec"].get("region", meta.LOCAL_REGION)
        message = (
            f"region {region} has not gone on with its deletion for {patience_s:.0f} s, so it goes; agents that are "
            "left there end when the region is controlled again"
        )
        self._events.record(agent_set, WARNING, "Abandoned", message)
        return DONE


def is_held(agent_set: ReadOnlyObject) -> bool:
    """Whether it is being deleted and waits for its region."""
    return meta.is_deleting(agent_set) and meta.has_finalizer(agent_set, meta.AGENTS_FINALIZER)
