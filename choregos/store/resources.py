"""Declarative objects: reads from a cache of the whole log, writes with compare-and-set through the log.

Invariants: an object's `metadata.resourceVersion` is the sequence of its record and is never stored; a write returns
when this cache has seen it, so whoever wrote reads his own write; a write that changes nothing stores nothing; objects
handed out are shared and must not be changed. It neither validates nor defaults nor authorizes: the API server does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from typing import Self

import msgspec

from choregos.foundation.clock import Clock
from choregos.foundation.errors import AlreadyExists, Conflict, Deposed, NotFound, TooLarge
from choregos.foundation.tasks import Tasks
from choregos.resources.kind import Object, equal
from choregos.store.port import RECORD_BYTES_MAX, Fence, Record, RecordLog, Write
from choregos.store.read_model import ReadModel
from choregos.store.watch import ChangeRing, ChangeType, Watch, rewound
from choregos.wire import subjects

log = logging.getLogger(__name__)

Named = tuple[str, Object]
"""(resource, object)."""

TOMBSTONE_TTL_S = 7 * 24 * 3600
"""A reader cut off for less than this learns of every deletion from the log itself."""

OBJECT_BYTES_MAX = RECORD_BYTES_MAX - 4_096
"""Of one object as it is stored; the difference is room for the mark of its deletion."""

HISTORY_CHANGES_MAX = 4_096
"""Changes kept per resource for watches that come back."""

HISTORY_BYTES_MAX = 32 * 1024 * 1024
"""Of their records: four thousand changes of objects of 1 MiB would fill a machine."""

EXPIRY_PERIOD_S = 5.0
CREATE_ATTEMPTS_MAX = 5


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object.

    Attributes:
        object: as it is now; for a deletion as it was last, with the deletion's resourceVersion.
        previous: as it was before; None if it is new.
        revision: sequence of the record that brought the change.
        size: bytes of that record.
    """

    type: ChangeType
    resource: str
    object: Object
    previous: Object | None
    revision: int
    size: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects ordered by namespace and name, complete as of `revision`."""

    items: Sequence[Object]
    revision: int


class _Shelf:
    """The objects of one resource in one namespace, by name; remembers their order until a name comes or goes."""

    __slots__ = ("_ordered", "objects")

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self._ordered: list[str] | None = None

    def put(self, name: str, obj: Object) -> Object | None:
        previous = self.objects.get(name)
        self.objects[name] = obj
        if previous is None:
            self._ordered = None
        return previous

    def take(self, name: str) -> Object | None:
        previous = self.objects.pop(name, None)
        if previous is not None:
            self._ordered = None
        return previous

    def ordered(self) -> Iterable[Object]:
        if self._ordered is None:
            self._ordered = sorted(self.objects)
        return map(self.objects.__getitem__, self._ordered)


class ResourceStore(ReadModel[Change]):
    """The objects of one log. An async context manager: open means that the cache is complete.

    Args:
        ttl_s: seconds after their last write when objects of this log vanish; None: never. Readers see that as a
            deletion.
    """

    def __init__(self, log: RecordLog, clock: Clock, *, ttl_s: int | None = None) -> None:
        super().__init__(log, clock)
        self._log = log
        self._clock = clock
        self._ttl_s = ttl_s
        self._shelves: dict[str, dict[str, _Shelf]] = {}  # resource -> namespace -> shelf
        self._written_ms: dict[str, int] = {}  # subject -> wall_ms, oldest first; only with a ttl
        self._rings: dict[str, ChangeRing[Change]] = {}
        self._loaded_at = 0
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._ttl_s is not None:
            self._tasks.start(self._expire_regularly(self._ttl_s), "expire")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()
        await super().__aexit__(*error)

    # Reading

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """Raises: NotFound."""
        shelf = self._shelves.get(resource, {}).get(namespace)
        found = None if shelf is None else shelf.objects.get(name)
        if found is None:
            raise NotFound(f'{resource} "{name}" not found')
        return found

    def list(self, resource: str, namespace: str = "") -> Listing:
        """All objects of a resource; an empty `namespace` means every namespace."""
        shelves = self._shelves.get(resource, {})
        if namespace:
            items = list(shelves[namespace].ordered()) if namespace in shelves else []
        else:
            items = list(chain.from_iterable(shelves[key].ordered() for key in sorted(shelves)))
        return Listing(items, self.revision)

    def count(self, resource: str, namespace: str = "") -> int:
        """How many objects `list` has."""
        shelves = self._shelves.get(resource, {})
        chosen = shelves.values() if not namespace else [shelves[namespace]] if namespace in shelves else []
        return sum(len(shelf.objects) for shelf in chosen)

    def list_as_of(self, revision: int, resource: str, namespace: str = "") -> Listing:
        """As `list`, of an earlier moment.

        Raises:
            Expired: not all changes since are known.
        """
        concerns = _of_namespace(namespace)
        changes = (change for change in self._ring(resource).back_to(revision) if concerns(change))
        present = {_key(item): item for item in self.list(resource, namespace).items}
        return Listing(rewound(present, ((_key(each.object), each.previous) for each in changes)), revision)

    def watch(self, resource: str, namespace: str = "", *, since: int | None = None) -> Watch[Change]:
        """Changes after revision `since` (None: from now on); close it with `aclose`.

        `since` must not be ahead of `revision`: use `wait_for` first.

        Raises:
            Expired: `since` is older than the changes kept; the iteration raises it too when the watcher is too slow.
        """
        ring = self._ring(resource)
        start = self.revision if since is None else since
        return Watch(ring, start, lambda: self.revision, _of_namespace(namespace))

    # Writing

    async def create(
        self,
        resource: str,
        obj: Object,
        *,
        also: Sequence[Named] = (),
        fence: Fence | None = None,
        bytes_max: int = OBJECT_BYTES_MAX,
    ) -> Object:
        """Stores a new object and returns it with its resourceVersion.

        Args:
            also: objects to update together with it; all is stored or nothing.
            bytes_max: of the object as it is stored.

        Raises:
            AlreadyExists: there is one of this name.
            Conflict: one of `also` has changed since it was read, or does not exist.
            Deposed: the fence is over.
            Temporary: the log cannot be reached; the object may have been stored.
            TooLarge: it has more than `bytes_max` bytes.
        """
        subject = _subject(resource, obj)
        data = self._encode(resource, obj, bytes_max)
        expected = 0
        for _ in range(CREATE_ATTEMPTS_MAX):
            write = Write(subject, data, expected=expected, ttl_s=self._ttl_s)
            try:
                return await self._write(resource, obj, write, also, fence)
            except Deposed:
                raise
            except Conflict as error:
                # There is an object, or the tombstone of one, which may expire at any moment.
                last = await self._log.last(subject)
                if last is not None and not last.tombstone:
                    name = obj["metadata"]["name"]
                    raise AlreadyExists(f'{resource} "{name}" already exists') from error
                found = 0 if last is None else last.sequence
                if also and found == expected:
                    raise  # it is one of the others that has changed
                expected = found
        raise Conflict(f"{subject} keeps changing")

    async def update(
        self,
        resource: str,
        obj: Object,
        *,
        also: Sequence[Named] = (),
        fence: Fence | None = None,
        bytes_max: int = OBJECT_BYTES_MAX,
    ) -> Object:
        """Stores a new state of an object whose `metadata.resourceVersion` says which state it was made from.

        Args:
            also: as of `create`; not stored either if the object does not change.
            bytes_max: as of `create`; what makes the object no larger than it is may always be written.

        Raises:
            NotFound: the object does not exist.
            Conflict: it has changed since, or one of `also` has.
            Deposed, Temporary, TooLarge: as `create`.
        """
        current = await self._expect(resource, obj)
        if equal(obj, current):
            return current
        return await self._write(resource, obj, self._replacement(resource, obj, bytes_max), also, fence)

    async def mark(self, resource: str, obj: Object, *, fence: Fence | None = None) -> Object:
        """As `update`, for an object that is being deleted from now on: there is always room to say so."""
        return await self.update(resource, obj, fence=fence, bytes_max=RECORD_BYTES_MAX)

    async def write_together(self, objects: Sequence[Named]) -> Sequence[Object]:
        """Stores all of these or none and returns them with their resourceVersions, in the order they are given in.

        Args:
            objects: new ones, without a resourceVersion, and new states of others, as of `update`; not two of a name.

        Raises:
            Conflict: one of them exists already, is there no more or has changed; none is stored.
            Temporary, TooLarge: as `create`.
        """
        writes = [self._replacement(*each) for each in objects]
        try:
            sequences = await self._log.append_batch(writes)
        except Deposed:
            raise
        except Conflict:
            tombstones = await self._tombstones(write.subject for write in writes if not write.expected)
            if not tombstones:
                raise
            writes = [replace(write, expected=tombstones.get(write.subject, write.expected)) for write in writes]
            sequences = await self._log.append_batch(writes)
        await self.wait_for(sequences[-1])
        return [_with_version(obj, sequence) for (_, obj), sequence in zip(objects, sequences, strict=True)]

    async def _tombstones(self, subjects: Iterable[str]) -> dict[str, int]:
        """The subjects that have the tombstone of an object, and its sequence."""
        found = await asyncio.gather(*map(self._log.last, subjects))
        return {last.subject: last.sequence for last in found if last is not None and last.tombstone}

    async def delete(self, resource: str, obj: Object, *, fence: Fence | None = None) -> Object:
        """Removes an object, if it is still as `metadata.resourceVersion` says; `obj` is kept as its last state.

        However large it is, there is room for its tombstone.

        Raises: as `update`.
        """
        await self._expect(resource, obj)
        write = Write(
            _subject(resource, obj), _encode(obj), expected=_version(obj), tombstone=True, ttl_s=TOMBSTONE_TTL_S
        )
        return await self._write(resource, obj, write, (), fence)

    async def _expect(self, resource: str, obj: Object) -> Object:
        """The cached object, if it is of the version that `obj` was made from."""
        version = _version(obj)
        await self.wait_for(version)
        metadata = obj["metadata"]
        current = self.get(resource, metadata.get("namespace", ""), metadata["name"])
        if _version(current) != version:
            raise Conflict(f'{resource} "{metadata["name"]}" was changed by somebody else; read it again')
        return current

    def check_size(self, resource: str, obj: Object, bytes_max: int) -> None:
        """Whether `create` or `update` would take it. Raises: TooLarge."""
        self._encode(resource, obj, bytes_max)

    def _encode(self, resource: str, obj: Object, bytes_max: int) -> bytes:
        """Raises: TooLarge, it has more bytes, and more than the object of which it is a new state."""
        data = _encode(obj)
        if len(data) > bytes_max and not (_version(obj) and len(data) <= self._size(resource, obj)):
            said = f"an object may have {bytes_max:,} bytes as stored, this has {len(data):,}"
            raise TooLarge(f'{resource} "{obj["metadata"]["name"]}" cannot be stored: {said}')
        return data

    def _size(self, resource: str, obj: Object) -> int:
        """Bytes of the object of this name as it is stored now; 0 if there is none."""
        metadata = obj["metadata"]
        try:
            return len(_encode(self.get(resource, metadata.get("namespace", ""), metadata["name"])))
        except NotFound:
            return 0

    def _replacement(self, resource: str, obj: Object, bytes_max: int = OBJECT_BYTES_MAX) -> Write:
        data = self._encode(resource, obj, bytes_max)
        return Write(_subject(resource, obj), data, expected=_version(obj), ttl_s=self._ttl_s)

    async def _write(
        self, resource: str, obj: Object, write: Write, also: Sequence[Named], fence: Fence | None
    ) -> Object:
        """`obj` as `write` stores it, and after it the others, so that whatever part of a batch a crash of the log
        leaves has the object that they speak of."""
        others = [self._replacement(*each) for each in also]
        try:
            if others:
                sequence, *rest = await self._log.append_batch([write, *others], fence=fence)
            else:
                sequence, rest = await self._log.append(write, fence=fence), []
        except TooLarge as error:
            raise TooLarge(f'{resource} "{obj["metadata"]["name"]}" cannot be stored: {error}') from error
        await self.wait_for(rest[-1] if rest else sequence)
        return _with_version(obj, sequence)

    # The follower's model

    def apply(self, record: Record) -> Change | None:
        if not record.subject.startswith(_OBJECTS):
            return None
        _, resource, namespace, name = map(subjects.untoken, record.subject.split("."))
        if namespace == subjects.CLUSTER_SCOPE:
            namespace = ""
        obj = _decode(record, namespace, name) if record.data else None
        self._written_ms.pop(record.subject, None)
        if record.tombstone or obj is None:
            previous = self._take(resource, namespace, name)
            if previous is None:
                return None
            last = obj or _with_version(previous, record.sequence)
            return Change(ChangeType.DELETED, resource, last, previous, record.sequence, len(record.data))
        if self._ttl_s is not None:
            self._written_ms[record.subject] = record.wall_ms
        previous = self._shelf(resource, namespace).put(name, obj)
        kind = ChangeType.ADDED if previous is None else ChangeType.MODIFIED
        return Change(kind, resource, obj, previous, record.sequence, len(record.data))

    def loaded(self, revision: int) -> None:
        self._loaded_at = revision
        for ring in self._rings.values():
            ring.end_watches()
        self._rings.clear()

    def held(self) -> Iterable[tuple[str, int]]:
        for resource, namespaces in self._shelves.items():
            for namespace, shelf in namespaces.items():
                for name, obj in shelf.objects.items():
                    yield subjects.object_subject(resource, namespace, name), _version(obj)

    def _publish(self, changes: Sequence[Change]) -> None:
        by_resource: dict[str, list[Change]] = {}
        for change in changes:
            by_resource.setdefault(change.resource, []).append(change)
        for resource, part in by_resource.items():
            self._ring(resource).publish(part)

    def _ring(self, resource: str) -> ChangeRing[Change]:
        ring = self._rings.get(resource)
        if ring is None:
            ring = self._rings[resource] = ChangeRing(
                self._loaded_at, HISTORY_CHANGES_MAX, size=lambda change: change.size, bytes_max=HISTORY_BYTES_MAX
            )
        return ring

    def _shelf(self, resource: str, namespace: str) -> _Shelf:
        namespaces = self._shelves.setdefault(resource, {})
        shelf = namespaces.get(namespace)
        if shelf is None:
            shelf = namespaces[namespace] = _Shelf()
        return shelf

    def _take(self, resource: str, namespace: str, name: str) -> Object | None:
        shelf = self._shelf(resource, namespace)
        previous = shelf.take(name)
        if not shelf.objects:
            del self._shelves[resource][namespace]
        return previous

    async def _expire_regularly(self, ttl_s: int) -> None:
        while True:
            await self._clock.sleep(EXPIRY_PERIOD_S)
            try:
                self._expire(self._clock.wall_ms() - ttl_s * 1000)
            except Exception:  # what is left over now goes at one of the next times
                log.exception("forgetting what has expired failed; it will be tried again")

    def _expire(self, oldest_ms: int) -> None:
        """Forgets what was written at `oldest_ms` or before."""
        gone = list(takewhile(lambda subject: self._written_ms[subject] <= oldest_ms, self._written_ms))
        if gone:
            self._follower.forget(gone)


_OBJECTS = ("o.", "oe.")
"""Prefixes of the objects' subjects; leases live in the same log."""


def _of_namespace(namespace: str) -> Callable[[Change], bool]:
    if not namespace:
        return lambda _: True
    return lambda change: change.object["metadata"].get("namespace", "") == namespace


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _subject(resource: str, obj: Object) -> str:
    metadata = obj["metadata"]
    return subjects.object_subject(resource, metadata.get("namespace", ""), metadata["name"])


def _version(obj: Object) -> int:
    """The sequence an object was read at; 0, which no object has, if it does not say."""
    try:
        return int(obj["metadata"].get("resourceVersion") or 0)
    except ValueError:
        return 0


def _with_version(obj: Object, sequence: int) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(sequence)}}


def _encode(obj: Object) -> bytes:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    return msgspec.json.encode({**obj, "metadata": metadata})


def _decode(record: Record, namespace: str, name: str) -> Object:
    """The object in a record.

    Raises:
        Exception: it holds none, or another than its subject says.
    """
    obj: Object = msgspec.json.decode(record.data)
    metadata = obj["metadata"]
    if (metadata.get("namespace", ""), metadata["name"]) != (namespace, name):
        raise ValueError("it holds an object of another name")
    metadata["resourceVersion"] = str(record.sequence)
    return obj
