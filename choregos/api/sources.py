"""Where objects are read from: one interface over the resource store and the directory of instances.

A source hands out items, of whatever type its store has; `document` makes the API object of one. So a list or a
watch that shows a few of ten thousand agents makes objects of those few only. Items are shared and never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from choregos.api.rules.pages import Key, Snapshot, Snapshots
from choregos.resources.kind import Kind, Object
from choregos.store.resources import Change, ResourceStore
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
    """Reads of one kind. `get` raises `NotFound`, `watch` raises `Expired`, `wait_for` raises `Temporary`."""

    @property
    def kind(self) -> Kind: ...

    @property
    def revision(self) -> int: ...

    async def wait_for(self, revision: int, timeout_s: float) -> None: ...

    def get(self, namespace: str, name: str) -> T: ...

    def snapshot(self, namespace: str) -> Snapshot[T]:
        """All items of a namespace, or of all if it is empty, as of `revision`."""
        ...

    def snapshot_of(self, namespace: str, revision: int) -> Snapshot[T] | None:
        """An earlier snapshot, if it is still held."""
        ...

    def document(self, item: T) -> Object: ...

    def labels(self, item: T) -> Mapping[str, str]: ...

    def name(self, item: T) -> str: ...

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

    def get(self, namespace: str, name: str) -> Object:
        return self.store.get(self.kind.plural, namespace, name)

    def snapshot(self, namespace: str) -> Snapshot[Object]:
        return self._snapshots.at(namespace, self.revision, lambda: self._take(namespace))

    def _take(self, namespace: str) -> Snapshot[Object]:
        listing = self.store.list(self.kind.plural, namespace)
        return Snapshot(listing.revision, [_key(item) for item in listing.items], listing.items)

    def snapshot_of(self, namespace: str, revision: int) -> Snapshot[Object] | None:
        return self._snapshots.held(namespace, revision)

    def document(self, item: Object) -> Object:
        return item

    def labels(self, item: Object) -> Mapping[str, str]:
        return item["metadata"].get("labels") or {}

    def name(self, item: Object) -> str:
        name: str = item["metadata"]["name"]
        return name

    def watch(self, namespace: str, since: int) -> Watch[Change]:
        return self.store.watch(self.kind.plural, namespace, since=since)

    def event(self, change: Change) -> Event[Object]:
        return Event(change.type.value, change.object, change.previous, change.revision)


def _key(item: Object) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
