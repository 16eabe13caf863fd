"""Service (core/v1): served because clients look for them, `kubectl cluster-info` before all else. There are none.

Agents are found by name, capability or labels, over the bus; nothing needs an address for a group of them.
"""

from __future__ import annotations

from choregos.resources.columns import AGE, NAME
from choregos.resources.kind import Kind
from choregos.resources.kinds.parts import Resource


class Service(Resource):
    """An address for a group of pods. There are none: agents are called by name, capability or labels."""


SERVICE = Kind(
    group="",
    version="v1",
    kind="Service",
    plural="services",
    singular="service",
    namespaced=True,
    model=Service,
    short_names=("svc",),
    has_status=False,
    columns=(NAME, AGE),
    verbs=frozenset({"get", "list", "watch"}),
    instead="agents need no Service; they are called by name, capability or labels",
)
"""Never created, so lists of it are empty."""
