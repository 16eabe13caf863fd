"""PodMetrics and NodeMetrics (metrics.k8s.io/v1beta1): what agents and nodes use, measured when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from choregos.resources.columns import NAME, path
from choregos.resources.kind import Column, Kind, ReadOnlyObject
from choregos.resources.kinds.parts import Part, Qualified, Quantity, Resource, Time

GROUP, VERSION = "metrics.k8s.io", "v1beta1"

Usage = dict[Qualified, Quantity]


class ContainerMetrics(Part):
    """What the agent uses."""

    name: str
    """Always `agent`."""
    usage: Usage
    """`cpu` in cores, averaged over the window; `memory` in bytes."""


class PodMetrics(Resource):
    """What an agent uses of its node. Annotations say how it was found."""

    timestamp: Time | None = None
    """End of the window."""
    window: str = ""
    """Time over which cpu was averaged: `15s`."""
    containers: list[ContainerMetrics] = Field(default_factory=list)
    """One: the agent."""


class NodeMetrics(Resource):
    """What is used of a node's machine, by agents and all else on it."""

    timestamp: Time | None = None
    """End of the window."""
    window: str = ""
    """Time over which cpu was averaged: `15s`."""
    usage: Usage = Field(default_factory=dict)
    """`cpu` in cores, averaged over the window; `memory` in bytes, without what the system can give back at once."""


def _of_agent(resource: str) -> Column:
    def cell(obj: ReadOnlyObject, now_ms: int) -> str:
        containers: Sequence[dict[str, Any]] = obj.get("containers") or ({},)
        return str((containers[0].get("usage") or {}).get(resource, ""))

    return Column(resource, cell, description=f"{resource} that is used.")


_VERBS = frozenset({"get", "list"})
_WINDOW = Column("Window", path("window"), description="Time over which cpu was averaged.")

POD_METRICS = Kind(
    group=GROUP,
    version=VERSION,
    kind="PodMetrics",
    plural="pods",
    singular="pod",
    namespaced=True,
    model=PodMetrics,
    verbs=_VERBS,
    has_status=False,
    plane="pod metrics",
    columns=(NAME, _of_agent("cpu"), _of_agent("memory"), _WINDOW),
)

NODE_METRICS = Kind(
    group=GROUP,
    version=VERSION,
    kind="NodeMetrics",
    plural="nodes",
    singular="node",
    namespaced=False,
    model=NodeMetrics,
    verbs=_VERBS,
    has_status=False,
    plane="node metrics",
    columns=(
        NAME,
        Column("cpu", path("usage", "cpu"), description="Cores that are used."),
        Column("memory", path("usage", "memory"), description="Bytes that are used."),
        _WINDOW,
    ),
)
