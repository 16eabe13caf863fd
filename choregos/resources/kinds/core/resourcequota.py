"""ResourceQuota (core/v1): how much one namespace may declare. What it bounds and how is `resources.quotas`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import Field

from choregos.foundation.errors import FieldError
from choregos.resources import quantity
from choregos.resources.columns import AGE, NAME
from choregos.resources.kind import Column, Kind, ReadOnlyObject, value_at
from choregos.resources.kinds.parts import FreeForm, Part, Quantity, Resource
from choregos.resources.quotas.names import AGENTS, DECLARED, MEMORY, counted
from choregos.resources.validation import dotted

_NO_SCOPES = "is not supported: a quota bounds everything in its namespace; leave it out"


class ResourceQuotaSpec(Part):
    """What the namespace may use."""

    hard: dict[str, Quantity] | None = None
    """Most of each name. `agents` (or `pods`), `cpu`, `memory` and `gpu` (or `requests.cpu`, `requests.memory`,
    `requests.choregos.dev/gpu`): what agents are declared to be and to need. `count/<resource>.<group>`, in the core
    group `count/<resource>`: objects, such as `count/agentclusters.choregos.dev` and `count/secrets`."""
    scopes: list[str] | None = None
    """Not supported: a quota bounds everything in its namespace."""
    scope_selector: FreeForm | None = None
    """Not supported: a quota bounds everything in its namespace."""


class ResourceQuotaStatus(Part):
    """What the namespace uses."""

    hard: dict[str, Quantity] | None = None
    """The limits that are in force."""
    used: dict[str, Quantity] | None = None
    """How much of each is used."""


class ResourceQuota(Resource):
    """How much one namespace may declare. What would go beyond it is refused when it is written."""

    spec: ResourceQuotaSpec = Field(default_factory=ResourceQuotaSpec)
    """What the namespace may use."""
    status: ResourceQuotaStatus = Field(default_factory=ResourceQuotaStatus)
    """What the namespace uses. Written by choregos."""


def _faults(counts: Collection[str], obj: ReadOnlyObject) -> Iterator[FieldError]:
    """
    Args:
        counts: names of what is counted.
    """
    for field in ("scopes", "scopeSelector"):
        if value_at(obj, f"spec.{field}"):
            yield FieldError(f"spec.{field}", _NO_SCOPES, "FieldValueForbidden")
    hard = value_at(obj, "spec.hard")
    if isinstance(hard, dict):
        yield from _limit_faults(counts, hard)


def _limit_faults(counts: Collection[str], hard: Mapping[str, Any]) -> Iterator[FieldError]:
    known = f"; what can be: {', '.join([*DECLARED, *sorted(counts)])}"
    wholes = {AGENTS: "agents", MEMORY: "bytes"}
    for name, amount in hard.items():
        path = dotted(("spec", "hard", str(name)))
        if name not in DECLARED and name not in counts:
            yield FieldError(path, f"is nothing that can be limited{known}", "FieldValueNotSupported")
            known = ""  # once is enough
            continue
        whole = "objects" if name in counts else wholes.get(DECLARED[name])
        if whole is not None and _is_broken(amount):
            yield FieldError(path, f"must be a whole number of {whole}, found {amount}")


def _is_broken(amount: Any) -> bool:
    """Whether it is a quantity with a fraction; if it is none, the model says so."""
    try:
        return bool(quantity.parse(amount) % 1000)
    except ValueError:
        return False


def _requests(obj: ReadOnlyObject, now_ms: int) -> str:
    """As kubectl's own: `agents: 3/10, cpu: 500m/2`."""
    hard, used = value_at(obj, "status.hard") or {}, value_at(obj, "status.used") or {}
    return ", ".join(f"{name}: {used.get(name, '0')}/{hard[name]}" for name in sorted(hard))


def resource_quota(others: Iterable[Kind]) -> Kind:
    """The kind, which can count the objects of the others and its own."""
    return replace(_UNRULED, rules=partial(_faults, counted([*others, _UNRULED])))


_UNRULED = Kind(
    group="",
    version="v1",
    kind="ResourceQuota",
    plural="resourcequotas",
    singular="resourcequota",
    namespaced=True,
    model=ResourceQuota,
    short_names=("quota",),
    returns_deleted=True,
    columns=(
        NAME,
        Column("Request", _requests, description="Used of what there is at most."),
        Column("Limit", lambda obj, now_ms: "", description="Empty: agents have requests and no limits of their own."),
        AGE,
    ),
)
