"""The life of nodes: which of them are alive, judged by their leases.

Owns the `Ready` condition of the region's AgentNodes and the times of their `NoExecute` taints, and nothing else of
them: the node writes all other status.
Invariant: a node is given up only after it was silent for its whole lease as this leader saw it; giving its agents to
others is `binding`'s, which looks at the condition. So a leader that dies in between leaves nothing half-done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from choregos.control.events import EventRecorder
from choregos.control.loop import DONE, Key, LoopSettings, Result
from choregos.control.objects import NODES, FencedObjects
from choregos.control.region.roster import Roster
from choregos.foundation.clock import Clock
from choregos.foundation.timestamp import rfc3339
from choregos.resources import meta
from choregos.resources.events import NORMAL, WARNING
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.scheduling.snapshot import NO_EXECUTE
from choregos.store.leases.heartbeat import LeaseObserver

SCAN = LoopSettings(resync_s=1.0)
"""Silence makes no event, so it is looked for; a scan costs one comparison per node."""


class NodeReconciler:
    """Drives one AgentNode per key."""

    name = "agentnodes"

    def __init__(
        self,
        objects: FencedObjects,
        roster: Roster,
        leases: LeaseObserver,
        events: EventRecorder,
        clock: Clock,
    ) -> None:
        self._objects = objects
        self._roster = roster
        self._leases = leases
        self._events = events
        self._clock = clock

    def keys(self) -> Iterable[Key]:
        """Nodes whose condition is not what their lease says."""
        for node in self._roster.objects():
            name = node["metadata"]["name"]
            if not self._is_judged(node, self._leases.alive(name)) or any(map(_unstamped, _taints(node))):
                yield Key("", name)

    async def reconcile(self, key: Key) -> Result:
        node = self._objects.find(NODES, "", key.name)
        if node is None or not self._roster.is_here(node):
            return DONE
        node = await self._stamp_taints(node)
        alive = self._leases.alive(key.name)
        if not self._is_judged(node, alive):
            await self._judge(node, alive=alive)
        return DONE

    def _is_judged(self, node: ReadOnlyObject, alive: bool) -> bool:
        return meta.condition(node, "Ready") is not None and meta.is_true(node, "Ready") == alive

    async def _stamp_taints(self, node: Object) -> Object:
        """Tolerations may count from when a taint was added, and people do not write that down."""
        if not any(map(_unstamped, _taints(node))):
            return node
        now = rfc3339(self._clock.wall_ms())
        taints = [{**taint, "timeAdded": now} if _unstamped(taint) else taint for taint in _taints(node)]
        return await self._objects.update(NODES, node, {**node, "spec": {**node["spec"], "taints": taints}})

    async def _judge(self, node: Object, *, alive: bool) -> None:
        if alive:
            kind, verdict = NORMAL, (meta.TRUE, "NodeReady", "the node renews its lease")
        else:
            kind, verdict = WARNING, (meta.UNKNOWN, "NodeSilent", "the node has stopped renewing its lease")
        status = node.get("status") or {}
        conditions = meta.set_condition(
            status.get("conditions") or (),
            "Ready",
            *verdict,
            now_ms=self._clock.wall_ms(),
            generation=meta.generation(node),
        )
        await self._objects.write_status(NODES, node, {**status, "conditions": conditions})
        self._events.record(node, kind, verdict[1], verdict[2])


def _taints(node: ReadOnlyObject) -> Sequence[Mapping[str, Any]]:
    return node["spec"].get("taints") or ()


def _unstamped(taint: Mapping[str, Any]) -> bool:
    return taint["effect"] == NO_EXECUTE and not taint.get("timeAdded")
