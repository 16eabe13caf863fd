"""The AgentNode object of this machine: made at the start, kept up to date while the node runs.

Owns all of its status but the `Ready` condition, which is the region's verdict, and none of its spec once it exists:
cordon and taints are people's. Invariant: a status that says the same is not written again.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

from choregos.control.node.capacity import Capacity, amounts, cores
from choregos.control.objects import NODES
from choregos.foundation.clock import Clock
from choregos.foundation.errors import AlreadyExists, Conflict, NotFound
from choregos.foundation.ids import IdSource
from choregos.resources import meta
from choregos.resources.kind import Object
from choregos.store.resources import ResourceStore

NODE_LABEL = f"{meta.GROUP}/node"
"""On every AgentNode its own name, so that a `nodeSelector` can name one node."""

ATTEMPTS_MAX = 5


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Who this node is.

    Attributes:
        name: of the AgentNode; stays the same over restarts.
        boot_id: unique per start of the process.
        declared: capacity that is declared and not measured, in thousandths (`resources.quantity.parse_all`).
        labels: added to the AgentNode when it is made.
        heartbeat_period_s, heartbeat_duration_s: the lease: how often it is renewed, and after which silence the
            region gives the node's agents to others.
        refresh_s: at most this often the AgentNode's figures are written.
    """

    name: str
    region: str
    boot_id: str
    declared: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    heartbeat_period_s: float = 10.0
    heartbeat_duration_s: float = 40.0
    refresh_s: float = 2.0


class NodeObject:
    """Writes the AgentNode. Raises `Temporary` while the store cannot be reached."""

    def __init__(
        self, settings: NodeSettings, capacity: Capacity, store: ResourceStore, clock: Clock, ids: IdSource
    ) -> None:
        self._settings = settings
        self._capacity = capacity
        self._store = store
        self._clock = clock
        self._ids = ids

    async def write(self, agents: int, allocated: Mapping[str, int]) -> None:
        """Makes the AgentNode if it is missing, and brings its status up to date.

        Args:
            agents: how many the node holds.
            allocated: what they take, in thousandths.
        """
        for _ in range(ATTEMPTS_MAX):
            try:
                node = self._store.get(NODES, "", self._settings.name)
            except NotFound:
                if await self._create(agents, allocated):
                    return
                continue
            try:
                await self._store.update(NODES, {**node, "status": self._status(node, agents, allocated)})
            except (Conflict, NotFound):
                continue  # the region judged it, or a person changed it, between our look and our write
            return
        # It is written again at the next refresh.

    async def _create(self, agents: int, allocated: Mapping[str, int]) -> bool:
        settings = self._settings
        node: Object = {
            "apiVersion": meta.API_VERSION,
            "kind": "AgentNode",
            "metadata": {"name": settings.name, "labels": {**settings.labels, NODE_LABEL: settings.name}},
            "spec": {"region": settings.region},
        }
        node = meta.created(node, self._ids.uid(), self._clock.wall_ms())
        node["status"] = self._status(node, agents, allocated)
        try:
            await self._store.create(NODES, node)
        except AlreadyExists:
            return False
        return True

    def _status(self, node: Object, agents: int, allocated: Mapping[str, int]) -> dict[str, Any]:
        status = node.get("status") or {}
        return {
            **status,
            "capacity": amounts(self._capacity.total),
            "allocatable": amounts(self._capacity.allocatable),
            "allocated": amounts(allocated),
            "agents": agents,
            "nodeInfo": {
                "hostname": socket.gethostname(),
                "pid": os.getpid(),
                "cores": cores(),
                **_system(),
                "pythonVersion": platform.python_version(),
                "choregosVersion": version("choregos"),
                "bootID": self._settings.boot_id,
            },
            "observedGeneration": meta.generation(node),
            "conditions": status.get("conditions") or [],
        }


@cache
def _system() -> Mapping[str, str]:
    """What the machine runs. None of it changes while a process lives."""
    try:
        image = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        image = platform.platform()
    return {
        "architecture": platform.machine(),
        "operatingSystem": platform.system().lower(),
        "osImage": image,
        "kernelVersion": platform.release(),
    }
