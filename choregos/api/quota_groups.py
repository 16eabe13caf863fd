"""Writes that may use more of a namespace's quotas, stored in groups.

All that use more of one quota compete for its one record, and to nats-server a batch of two costs nearly what one of a
hundred does (decision 0013). So one group of a namespace is under way at a time, and what comes meanwhile goes together
in the next: judged one after the other, each by what the namespace is once those before it are stored, and then stored
as one batch, after the objects the newest state of every quota that is concerned.

Invariants: each write is answered for itself, and one that is refused, by the quotas or by the store, refuses no other:
a refusal for want of room stands only if those before it in the group are stored; two writes of an object are never in
one group, and go in the order in which they came; a batch that was refused has stored nothing, and everything in it is
judged again; one whose caller has gone before its group begins is left out.
"""

from __future__ import annotations

from asyncio import Future, Timeout, get_running_loop
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import msgspec

from choregos.api.rules.status import Refusal, Subject
from choregos.foundation.errors import AlreadyExists, ChoregosError, Conflict, Deposed, NotFound, Temporary
from choregos.foundation.tasks import Tasks, logged
from choregos.foundation.timeout import timeout
from choregos.resources.kind import Kind, Object, ReadOnlyObject
from choregos.store.resources import Named, ResourceStore

WAIT_S_MAX = 15.0
"""Longest wait for a group: when the store does not answer, those who wait fail together, not one after the other."""

GROUP_WRITES_MAX = 100
GROUP_BYTES_MAX = 4 * 1024 * 1024
"""Of the objects of one group, unless a single one has more."""

Admit = Callable[[Kind, Subject, Object], Iterable[Object]]
"""What is to be stored with an object: the quotas of which it uses more, as they then are. The next is judged with it.

Raises: Refusal 403, it is more than a quota allows.
"""


@dataclass(slots=True, eq=False)
class _Waiting:
    """
    Attributes:
        obj: new, without a resourceVersion, or a new state of what has that version.
        bytes: about what its record has.
        limit: of the wait for its group.
        attempts: how often it was part of what the store refused.
        alone: it goes by itself, because nobody knows whose fault such a refusal was.
    """

    kind: Kind
    subject: Subject
    obj: Object
    bytes: int
    stored: Future[Object]
    limit: Timeout
    attempts: int = 0
    alone: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.kind.plural, self.obj["metadata"]["name"]

    def answer(self, stored: Object) -> None:
        if not self.stored.done():
            self.stored.set_result(stored)

    def refuse(self, error: Exception) -> None:
        if not self.stored.done():
            self.stored.set_exception(error)


@dataclass(slots=True)
class _Group:
    """
    Attributes:
        writes: those that were admitted.
        refused: after others that were admitted; it stands only if those are stored.
        quotas: by name, as they are once all of them are stored.
    """

    writes: list[_Waiting] = field(default_factory=list)
    refused: list[tuple[_Waiting, ChoregosError]] = field(default_factory=list)
    quotas: dict[str, Named] = field(default_factory=dict)

    @property
    def batch(self) -> list[Named]:
        # The objects come first: of what a crash leaves of a batch, none may be an object that nobody has counted.
        return [*((one.kind.plural, one.obj) for one in self.writes), *self.quotas.values()]


class QuotaGroups:
    """Of all namespaces, until `close`.

    Args:
        judging: a context of a namespace in which writes are judged, at once and without waiting.
        quotas: the resource of those.
        attempts_max: how often a write is made again because others used the same quota first.
    """

    def __init__(
        self,
        resources: ResourceStore,
        judging: Callable[[str], AbstractContextManager[Admit]],
        quotas: str,
        attempts_max: int,
    ) -> None:
        self._resources = resources
        self._judging = judging
        self._quotas = quotas
        self._attempts_max = attempts_max
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._tasks = Tasks(on_failure=logged)

    async def close(self) -> None:
        """Whoever waits is cancelled."""
        await self._tasks.close()

    async def store(self, namespace: str, kind: Kind, subject: Subject, obj: Object) -> Object:
        """Stores a new object, which has no resourceVersion, or a new state of one, and returns it with its version.

        Raises:
            AlreadyExists, NotFound, TooLarge
            Conflict: it has changed since.
            Refusal: 403, it is more than a quota allows.
            Temporary: others have taken too long, or were faster too many times; the log cannot be reached.
        """
        size = len(msgspec.json.encode(obj))
        try:
            async with timeout(WAIT_S_MAX) as limit:
                one = _Waiting(kind, subject, obj, size, get_running_loop().create_future(), limit)
                if namespace not in self._waiting:
                    self._tasks.start(self._store_all(namespace), f"store groups of writes of {namespace}")
                    self._waiting[namespace] = deque()
                self._waiting[namespace].append(one)
                return await one.stored
        except TimeoutError as error:
            raise Temporary("too many writes wait for the quotas of the namespace") from error

    async def _store_all(self, namespace: str) -> None:
        waiting = self._waiting[namespace]
        taken: Sequence[_Waiting] = ()
        try:
            while taken := _next_group(waiting):
                waiting.extendleft(reversed(await self._store_group(namespace, taken)))
        finally:
            del self._waiting[namespace]
            for one in (*taken, *waiting):
                one.stored.cancel()

    async def _store_group(self, namespace: str, taken: Sequence[_Waiting]) -> Sequence[_Waiting]:
        """Answers those who wait, but some, who are to be taken again."""
        try:
            group = self._judged(namespace, taken)
            if group.writes:
                await self._store(group)
            return [one for one in taken if not one.stored.done()]
        except Exception as error:
            left = [one for one in taken if not one.stored.done()]
            if len(left) > 1 and not isinstance(error, Deposed | Temporary):
                for one in left:  # what is wrong with one shall be no other's fault
                    one.alone = True
                return left
            for one in left:
                one.refuse(error)
            return ()

    def _judged(self, namespace: str, taken: Sequence[_Waiting]) -> _Group:
        group = _Group()
        with self._judging(namespace) as admit:
            for one in taken:
                try:
                    self.check(one.kind, one.obj)
                    quotas = admit(one.kind, one.subject, one.obj)
                except ChoregosError as error:
                    if isinstance(error, Refusal) and group.writes:
                        group.refused.append((one, error))
                    else:
                        one.refuse(error)
                    continue
                group.writes.append(one)
                group.quotas.update((quota["metadata"]["name"], (self._quotas, quota)) for quota in quotas)
        return group

    def check(self, kind: Kind, obj: ReadOnlyObject) -> None:
        """Whether an object can be stored on what is known here. Raises: AlreadyExists, Conflict, NotFound."""
        expected, found = _version(obj), self._version_of(kind.plural, obj)
        name = obj["metadata"]["name"]
        if expected == found:
            return
        if not expected:
            raise AlreadyExists(f'{kind.plural} "{name}" already exists')
        if not found:
            raise NotFound(f'{kind.plural} "{name}" not found')
        raise Conflict(f'{kind.plural} "{name}" was changed by somebody else; read it again')

    async def _store(self, group: _Group) -> None:
        """Answers everybody in it, unless others were faster."""
        try:
            if len(group.writes) == 1:
                stored: Sequence[Object] = [await self._store_one(group.writes[0], [*group.quotas.values()])]
            else:
                stored = await self._resources.write_together(group.batch)
        except Deposed:
            raise
        except Conflict:
            if len(group.batch) == 1:
                raise  # it is the object itself
            await self._after_conflict(group)
        else:
            for one, obj in zip(group.writes, stored, strict=False):  # the quotas come last
                one.answer(obj)
            for one, error in group.refused:
                one.refuse(error)

    async def _store_one(self, one: _Waiting, quotas: Sequence[Named]) -> Object:
        if _version(one.obj):
            return await self._resources.update(one.kind.plural, one.obj, also=quotas)
        return await self._resources.create(one.kind.plural, one.obj, also=quotas)

    async def _after_conflict(self, group: _Group) -> None:
        """Has them try again, once what was faster is known here. If that explains nothing, each by itself."""
        await self._resources.catch_up()
        explained = any(self._version_of(resource, obj) != _version(obj) for resource, obj in group.batch)
        for one in group.writes:
            one.attempts += 1
            one.alone = one.alone or not explained
            if one.attempts >= self._attempts_max:
                one.refuse(Temporary("the quotas of the namespace are in use by many others at the same time"))

    def _version_of(self, resource: str, obj: ReadOnlyObject) -> str:
        """Of the object of this name as it is known here; empty if there is none."""
        metadata = obj["metadata"]
        try:
            return _version(self._resources.get(resource, metadata.get("namespace", ""), metadata["name"]))
        except NotFound:
            return ""


def _next_group(waiting: deque[_Waiting]) -> list[_Waiting]:
    """As many as may go together, the first of all among them; empty if nobody waits."""
    group: list[_Waiting] = []
    keys: set[tuple[str, str]] = set()
    size = 0
    while waiting and len(group) < GROUP_WRITES_MAX:
        one = waiting[0]
        if not one.stored.done():
            size += one.bytes
            if group and (one.alone or group[0].alone or one.key in keys or size > GROUP_BYTES_MAX):
                break
            one.limit.reschedule(None)  # its wait is over
            keys.add(one.key)
            group.append(one)
        waiting.popleft()
    return group


def _version(obj: ReadOnlyObject) -> str:
    return str(obj["metadata"].get("resourceVersion") or "")
