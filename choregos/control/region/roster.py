"""The nodes of a region as the scheduler sees them: AgentNode objects joined with what the census counts on them.

Invariants: a node takes agents only while its AgentNode says Ready; a node that has just refused a binding is left
alone for a while, because its own count is the true one; an AgentNode that cannot be read takes no agents and drives
none out, and stands in the way of no other. Reads objects, writes none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from choregos.control.objects import NODES, FencedObjects
from choregos.control.region.census import Census
from choregos.foundation.clock import Clock
from choregos.foundation.timestamp import parse_rfc3339
from choregos.resources import meta
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.resources.quantity import parse_all
from choregos.scheduling.filters import evicted_by
from choregos.scheduling.snapshot import NO_EXECUTE, Needs, Node, Snapshot, Taint

log = logging.getLogger(__name__)

REFUSAL_S = 5.0
"""How long a node that refused a binding gets no other."""


class Roster:
    """Makes snapshots, and answers which nodes are there."""

    def __init__(self, objects: FencedObjects, census: Census, region: str, clock: Clock) -> None:
        self._objects = objects
        self._census = census
        self._region = region
        self._clock = clock
        self._parsed: dict[str, tuple[str, Node]] = {}  # name → (resourceVersion, node without its load)
        self._refused: dict[str, float] = {}

    def objects(self) -> Iterator[Object]:
        """The AgentNodes of this region."""
        for node in self._objects.list(NODES):
            if self.is_here(node):
                yield node

    def is_here(self, node: ReadOnlyObject) -> bool:
        return bool(node["spec"].get("region", meta.LOCAL_REGION) == self._region)

    def present(self, node: str) -> bool:
        """Whether agents bound to this node are with it: it is registered here, and not given up as lost."""
        found = self._objects.find(NODES, "", node)
        return found is not None and not is_lost(found)

    def drives_out(self, node: str) -> bool:
        """Whether the node has a taint that makes agents leave which are there already."""
        return any(taint.effect == NO_EXECUTE for taint in self._find(node).taints)

    def evicted_by(self, node: str, needs: Needs) -> Taint | None:
        """The taint for which an agent of these needs has to leave now."""
        return evicted_by(self._find(node), needs, self._clock.wall_ms())

    def refuses(self, node: str) -> None:
        """The node has just refused a binding."""
        self._refused[node] = self._clock.monotonic() + REFUSAL_S

    def snapshot(self) -> Snapshot:
        now = self._clock.monotonic()
        self._refused = {node: until for node, until in self._refused.items() if until > now}
        nodes = [self._parse(obj) for obj in self.objects()]
        self._parsed = {node.name: self._parsed[node.name] for node in nodes}
        return Snapshot(
            tuple(
                Node(
                    node.name,
                    node.allocatable,
                    self._census.allocated(node.name),
                    node.labels,
                    node.taints,
                    node.ready and node.name not in self._refused,
                    node.unschedulable,
                )
                for node in nodes
            )
        )

    def _find(self, name: str) -> Node:
        obj = self._objects.find(NODES, "", name)
        return Node(name, {}) if obj is None else self._parse(obj)

    def _parse(self, obj: ReadOnlyObject) -> Node:
        name, version = obj["metadata"]["name"], obj["metadata"]["resourceVersion"]
        known = self._parsed.get(name)
        if known is None or known[0] != version:
            known = self._parsed[name] = (version, _read_node(obj))
        return known[1]


def _read_node(obj: ReadOnlyObject) -> Node:
    try:
        return parse_node(obj)
    except Exception as error:  # stored by another version, or past all validation: it is one node's fault
        log.error("AgentNode %s cannot be read and is left alone: %r", obj["metadata"]["name"], error)
        return Node(obj["metadata"]["name"], {}, ready=False)


def parse_node(obj: ReadOnlyObject) -> Node:
    """The node without its load; raises whatever an odd value of a field makes of it."""
    spec, status = obj["spec"], obj.get("status") or {}
    return Node(
        obj["metadata"]["name"],
        parse_all(status.get("allocatable") or {}),
        labels=obj["metadata"].get("labels") or {},
        taints=tuple(
            Taint(taint["key"], taint.get("value") or "", taint["effect"], _added_ms(taint))
            for taint in spec.get("taints") or ()
        ),
        ready=meta.is_true(obj, "Ready") and not meta.is_deleting(obj),
        unschedulable=bool(spec.get("unschedulable")),
    )


def _added_ms(taint: Mapping[str, Any]) -> int:
    return parse_rfc3339(taint["timeAdded"]) if taint.get("timeAdded") else 0


def changes_placement(before: ReadOnlyObject | None, after: ReadOnlyObject) -> bool:
    """Whether a change of an AgentNode matters for where agents can be; its counts and times do not."""
    if before is None or meta.is_deleting(after):
        return True
    try:
        return parse_node(before) != parse_node(after)
    except Exception:  # one of them cannot be read; the roster says which and why
        return True


def is_lost(obj: ReadOnlyObject) -> bool:
    """Whether the node has been silent so long that its agents are given to others."""
    ready = meta.condition(obj, "Ready")
    return ready is not None and ready.get("status") != meta.TRUE
