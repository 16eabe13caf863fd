"""What the API server must know of a kind to serve it: names, model, columns, subresources. Data only, pure.

One kind, one file in `kinds/`; `registry.KINDS` lists them all. Nothing else in the system enumerates kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from choregos.foundation.errors import FieldError

if TYPE_CHECKING:
    # Whoever only wants `Object` must not pay for pydantic.
    from pydantic import BaseModel

Object = dict[str, Any]
"""A resource as decoded JSON: apiVersion, kind, metadata, spec, status. The currency of store and API server."""

ReadOnlyObject = Mapping[str, Any]


def value_at(obj: Any, path: str) -> Any:
    """What stands at a dotted path such as `spec.replicas`; None if nothing does."""
    for key in path.split("."):
        obj = obj.get(key) if isinstance(obj, Mapping) else None
    return obj


def equal(left: Any, right: Any) -> bool:
    """Whether two decoded values are the same as JSON: in Python 1 is True as well, in JSON it is not."""
    return bool(left == right) and _equally_typed(left, right)


def _equally_typed(left: Any, right: Any) -> bool:
    """Of values that Python finds equal."""
    if isinstance(left, Mapping):
        return all(_equally_typed(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple):
        return all(map(_equally_typed, left, right))
    return isinstance(left, bool) is isinstance(right, bool)


@dataclass(frozen=True, slots=True)
class Column:
    """One printer column of `kubectl get`.

    Attributes:
        name: heading, in the form kubectl prints upper-case: `Ready`, `Up-To-Date`.
        cell: value for one object; `now_ms` is the wall clock, for ages. Missing parts give an empty cell.
        type: OpenAPI type of the cell: `string`, `integer`, `boolean`, `date`.
        wide: shown only with `-o wide`.
    """

    name: str
    cell: Callable[[ReadOnlyObject, int], Any]
    type: str = "string"
    format: str = ""
    description: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where `/scale` finds its numbers, as dotted paths."""

    spec_replicas: str = "spec.replicas"
    status_replicas: str = "status.replicas"
    selector: str = "status.selector"


@dataclass(frozen=True, slots=True)
class Subresource:
    """What is served below one object besides `status` and `scale`.

    Attributes:
        response: (group, version, kind) of what is answered, and for most of what is sent.
        verbs: those that authorization knows.
    """

    name: str
    response: tuple[str, str, str]
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """One served kind.

    Attributes:
        group, version: canonical; the core group is empty.
        aliases: further (group, version) pairs under which the same objects are served and accepted.
        model: pydantic model of the whole object; validates, fills defaults, generates the schema.
        columns: of `kubectl get`, all of them, Name included.
        verbs: subset of get, list, watch, create, update, patch, delete, deletecollection.
        has_status: `/status` is a subresource, and plain writes leave `.status` alone.
        plane: `declarative` (RESOURCES stream), `event` (the event stream, expires), `instance` (the directory);
            or not stored: `virtual` (create only, answered at once), `pod` (made from the directory), `node` (from
            AgentNodes), `pod metrics` and `node metrics` (measured when asked).
        rules: what neither a single field nor a rule in CEL can tell (see `rules`): given the object as it came (its
            fields may be of any type), every fault.
        advice: given the validated object, warnings for the person who applied it.
        immutable: dotted paths that no update may change, of what is no plain value; for those see `unchangeable`.
        instead: for who tries what is not among the verbs: what to do instead.
        changes: given the stored and the validated object of an update, every fault of the change.
        subresources: served by handlers of their own.
        returns_deleted: a deletion is answered with the last state of the object, as clients know it of this kind in
            Kubernetes; else with a Status, unless something holds the object yet.
        selectable: dotted paths that a field selector may name, as clients know them of Kubernetes, although objects
            may not have them; and what is compared then. Besides those of the schema.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    model: type[BaseModel]
    columns: tuple[Column, ...] = ()
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    verbs: frozenset[str] = field(
        default=frozenset({"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"})
    )
    has_status: bool = True
    scale: ScalePaths | None = None
    plane: str = "declarative"
    rules: Callable[[ReadOnlyObject], Iterable[FieldError]] | None = None
    advice: Callable[[ReadOnlyObject], Iterable[str]] | None = None
    immutable: tuple[str, ...] = ()
    instead: str = ""
    changes: Callable[[ReadOnlyObject, ReadOnlyObject], Iterable[FieldError]] | None = None
    subresources: tuple[Subresource, ...] = ()
    returns_deleted: bool = False
    selectable: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def is_projected(self) -> bool:
        """Whether its objects are other kinds' objects, shown differently; only such share a plural with others."""
        return self.plane in ("pod", "node", "pod metrics", "node metrics")

    @property
    def subresource_names(self) -> frozenset[str]:
        """Everything that is served below one object."""
        usual = (("status", self.has_status), ("scale", self.scale is not None))
        return frozenset((*(name for name, served in usual if served), *(each.name for each in self.subresources)))

    @property
    def api_version(self) -> str:
        """`choregos.dev/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version
