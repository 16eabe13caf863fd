"""Namespace (core/v1): a scope for names. Agents of one namespace never share a process with those of another."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from choregos.resources.columns import AGE, NAME
from choregos.resources.kind import Column, Kind, ReadOnlyObject
from choregos.resources.kinds.parts import UNDOTTED_NAME, Conditions, Part, Resource, name_length_max
from choregos.resources.names import LABEL_LENGTH_MAX
from choregos.resources.rules.rule import ruled


class NamespaceSpec(Part):
    """How the namespace shall be."""

    finalizers: list[str] | None = None
    """What must be done before the namespace disappears."""


class NamespaceStatus(Part):
    """How the namespace is."""

    phase: str = Field(default="Active", pattern="^(Active|Terminating)$")
    """`Active`, or `Terminating` while its contents are being removed."""
    conditions: Conditions | None = None
    """What holds up its removal."""


class Namespace(Resource):
    """A scope for names: two teams may use the same name in two namespaces."""

    model_config = ConfigDict(json_schema_extra=ruled(name_length_max(LABEL_LENGTH_MAX, "are allowed"), UNDOTTED_NAME))

    spec: NamespaceSpec = Field(default_factory=NamespaceSpec)
    """How the namespace shall be."""
    status: NamespaceStatus = Field(default_factory=NamespaceStatus)
    """How the namespace is."""


def _status(obj: ReadOnlyObject, now_ms: int) -> str:
    deleting = obj["metadata"].get("deletionTimestamp")
    return "Terminating" if deleting else (obj.get("status") or {}).get("phase", "Active")


NAMESPACE = Kind(
    group="",
    version="v1",
    kind="Namespace",
    plural="namespaces",
    singular="namespace",
    namespaced=False,
    model=Namespace,
    short_names=("ns",),
    columns=(NAME, Column("Status", _status, description="Active or Terminating."), AGE),
    verbs=frozenset({"get", "list", "watch", "create", "update", "patch", "delete"}),
)
