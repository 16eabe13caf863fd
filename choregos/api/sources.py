"""Where objects are read from: one interface over the resource store and the directory of instances.

A source hands out items, of whatever type its store has; `document` makes the API object of one. So a list or a
watch that shows a few of ten thousand agents makes objects of those few only. Items are shared and never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from choregos.api.projections.nodes import node
from choregos.api.rules.pages import Key, Snapshot, Snapshots
from choregos.foundation.errors import Expired
from choregos.resources.kind import Kind, Object
from choregos.resources.selectors import field_text
from choregos.store.directory import Directory
from choregos.store.instance import Instance, InstanceChange
from choregos.store.resources import Change, Listing, ResourceStore
from choregos.store.watch import Watch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """One change as a watch shows it.

    Attributes:
        type: `ADDED`, `MODIFIED` or `DELETED`.
        item: after the change; of a deletion the last state.
        previous: before it; None if the item is new.
    """

    type: str
    item: T
    previous: T | None
    revision: int


class Source(Protocol[T]):
    """Reads of one kind. `get` raises `NotFound`, `watch` `Expired`, `wait_for` and `catch_up` `Temporary`."""

    @property
    def revision(self) -> int: ...

    async def wait_for(self, revision: int, timeout_s: float) -> None: ...

    async def catch_up(self) -> None:
        """Returns once everything that was acknowledged before this call, by any server, can be read here."""
        ...

    def get(self, namespace: str, name: str) -> T: ...

    def count(self, namespace: str) -> int:
        """How many items a `snapshot` has."""
        ...

    def snapshot(self, namespace: str) -> Snapshot[T]:
        """All items of a namespace, or of all if it is empty, as of `revision`."""
        ...

    def snapshot_of(self, namespace: str, revision: int) -> Snapshot[T] | None:
        """An earlier snapshot, if what has changed since is known: whoever has handed it out."""
        ...

    def document(self, item: T) -> Object: ...

    def labels(self, item: T) -> Mapping[str, str]: ...

    def name(self, item: T) -> str: ...

    def field(self, item: T, path: str) -> str:
        """What field selectors compare; `field_text` of the document."""
        ...

    def watch(self, namespace: str, since: int) -> Watch[Any]:
        """The store's own changes; `event` translates one."""
        ...

    def event(self, change: Any) -> Event[T]: ...


AnySource = Source[Any]


class StoredSource:
    """Reads of a kind that the resource store holds."""

    def __init__(self, store: ResourceStore, kind: Kind) -> None:
        self.store = store
        self.kind = kind
        self._snapshots: Snapshots[Object] = Snapshots()

    @property
    def revision(self) -> int:
        return self.store.revision

    async def wait_for(self, revision: int, timeout_s: float) -> None:
        await self.store.wait_for(revision, timeout_s)

    async def catch_up(self) -> None:
        await self.store.catch_up()

    def get(self, namespace: str, name: str) -> Object:
        return self.store.get(self.kind.plural, namespace, name)

    def count(self, namespace: str) -> int:
        return self.store.count(self.kind.plural, namespace)

    def snapshot(self, namespace: str) -> Snapshot[Object]:
        store, kind = self.store, self.kind.plural
        return self._snapshots.at(
            store.log_changes, namespace, self.revision, lambda: _snapshot(store.list(kind, namespace))
        )

    def snapshot_of(self, namespace: str, revision: int) -> Snapshot[Object] | None:
        store, kind = self.store, self.kind.plural
        if revision > self.revision:
            return None
        try:
            return self._snapshots.at(
                store.log_changes,
                namespace,
                revision,
                lambda: _snapshot(store.list_as_of(revision, kind, namespace)),
            )
        except Expired:
            return None

    def document(self, item: Object) -> Object:
        return item

    def labels(self, item: Object) -> Mapping[str, str]:
        return item["metadata"].get("labels") or {}

    def name(self, item: Object) -> str:
        name: str = item["metadata"]["name"]
        return name

    def field(self, item: Object, path: str) -> str:
        return field_text(self.document(item), path)

    def watch(self, namespace: str, since: int) -> Watch[Change]:
        return self.store.watch(self.kind.plural, namespace, since=since)

    def event(self, change: Change) -> Event[Object]:
        return Event(change.type.value, change.object, change.previous, change.revision)


class NodeSource(StoredSource):
    """Reads of Nodes: the AgentNodes of the store, shown as core/v1.

    Args:
        kind: of the AgentNodes.
    """

    def document(self, item: Object) -> Object:
        return node(item)


@dataclass(frozen=True, slots=True)
class Projection:
    """How instances are shown.

    Attributes:
        fields: text of fields that can be had without making the document.
    """

    document: Callable[[Instance], Object]
    fields: Mapping[str, Callable[[Instance], str]] = field(default_factory=lambda: MappingProxyType({}))


class InstanceSource:
    """Reads of one region's directory, shown through a projection."""

    def __init__(self, directory: Directory, projection: Projection) -> None:
        self._directory = directory
        self._projection = projection
        self._snapshots: Snapshots[Instance] = Snapshots()

    @property
    def revision(self) -> int:
        return self._directory.revision

    async def wait_for(self, revision: int, timeout_s: float) -> None:
        await self._directory.wait_for(revision, timeout_s)

    async def catch_up(self) -> None:
        await self._directory.catch_up()

    def get(self, namespace: str, name: str) -> Instance:
        return self._directory.get(namespace, name)

    def count(self, namespace: str) -> int:
        return self._directory.count(namespace)

    def snapshot(self, namespace: str) -> Snapshot[Instance]:
        directory = self._directory
        return self._snapshots.at(
            directory.log_changes,
            namespace,
            self.revision,
            lambda: _instances(self.revision, directory.list(namespace)),
        )

    def snapshot_of(self, namespace: str, revision: int) -> Snapshot[Instance] | None:
        directory = self._directory
        if revision > self.revision:
            return None
        try:
            return self._snapshots.at(
                directory.log_changes,
                namespace,
                revision,
                lambda: _instances(revision, directory.list_as_of(revision, namespace)),
            )
        except Expired:
            return None

    def document(self, item: Instance) -> Object:
        return self._projection.document(item)

    def labels(self, item: Instance) -> Mapping[str, str]:
        return item.labels

    def name(self, item: Instance) -> str:
        return item.name

    def field(self, item: Instance, path: str) -> str:
        text = self._projection.fields.get(path)
        return text(item) if text is not None else field_text(self.document(item), path)

    def watch(self, namespace: str, since: int) -> Watch[InstanceChange]:
        return self._directory.watch(namespace, since=since)

    def event(self, change: InstanceChange) -> Event[Instance]:
        return Event(change.type.value, change.instance, change.previous, change.revision)


def _snapshot(listing: Listing) -> Snapshot[Object]:
    return Snapshot(listing.revision, [_key(item) for item in listing.items], listing.items)


def _instances(revision: int, instances: Sequence[Instance]) -> Snapshot[Instance]:
    return Snapshot(revision, [instance.key for instance in instances], instances)


def _key(item: Object) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
