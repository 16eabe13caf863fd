"""The ResourceQuotas of namespaces, where objects are written.

Invariant: a write that uses more of a quota is stored together with that quota's new status, each as it was read. So of
two writes that were judged by the same state, at any two servers, one is a conflict and judged again. Writes at one
server take turns, so that only servers compete. What is used comes from the objects, by a ledger of each namespace that
has quotas, and never from what a status says; who keeps that true when objects shrink or go is the fleet's reconciler.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Any
from weakref import WeakValueDictionary

from choregos.api.rules.status import Refusal, Subject
from choregos.foundation.errors import FieldError, Temporary
from choregos.foundation.timeout import timeout
from choregos.resources.kind import Kind, Object, ReadOnlyObject
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.quotas.admission import Admission, admission, bounds
from choregos.resources.quotas.ledger import Ledger
from choregos.resources.registry import RESOURCEQUOTA
from choregos.store.resources import Change, Named, ResourceStore
from choregos.store.watch import ChangeType

log = logging.getLogger(__name__)

QUOTAS = RESOURCEQUOTA.plural

QUOTAS_MAX = 100
"""Quotas of one namespace; all may have to be stored together with one object."""

TURN_S_MAX = 15.0
"""Longest wait for a turn: when the store does not answer, those who wait fail together and not one after the other."""


class Quotas:
    """Of all namespaces of a store, for one server, until `close`."""

    def __init__(self, resources: ResourceStore) -> None:
        self._resources = resources
        self._ledgers = _Ledgers(resources)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def close(self) -> None:
        self._ledgers.close()

    def turn(self, kind: Kind, namespace: str) -> AbstractAsyncContextManager[Any]:
        """In it no other write of the namespace is judged or stored here. Costs nothing where nothing is bounded.

        Entering it raises: Temporary, others have taken too long.
        """
        if not any(bounds(quota, kind.plural) for quota in self._of(kind, namespace)):
            return nullcontext()
        lock = self._turns.get(namespace)
        if lock is None:
            lock = self._turns[namespace] = asyncio.Lock()
        return _turn(lock)

    def admit(self, kind: Kind, subject: Subject, obj: Object) -> list[Named]:
        """What is to be stored together with a new or changed object; nothing if no quota is used more.

        Raises:
            Refusal: 403, it is more than a quota allows.
        """
        namespace = obj["metadata"].get("namespace", "")
        quotas = self._of(kind, namespace)
        verdict = Admission((), ())
        if any(bounds(quota, kind.plural) for quota in quotas):
            with self._ledgers.of(namespace) as ledger:
                verdict = admission(quotas, kind.plural, obj, ledger)
        excesses = [*verdict.excesses]
        if kind.plural == QUOTAS and len(quotas) >= QUOTAS_MAX and not obj["metadata"].get("resourceVersion"):
            excesses.append(f"a namespace has at most {QUOTAS_MAX} quotas")
        if excesses:
            field = _field(kind, obj)
            causes = tuple(FieldError(field, excess, "FieldValueForbidden") for excess in excesses if field)
            quoted = f'{subject.qualified_resource} "{subject.name}"'
            raise Refusal(403, "Forbidden", f"{quoted} is forbidden: {'; '.join(excesses)}", causes=causes)
        return [(QUOTAS, quota) for quota in verdict.quotas]

    def _of(self, kind: Kind, namespace: str) -> list[Object]:
        if not kind.namespaced or kind.plane != "declarative":
            return []
        return [*self._resources.list(QUOTAS, namespace).items]


class _Ledgers:
    """A ledger for each namespace in which a write was judged, as long as it has a quota.

    Invariant: a ledger that is held agrees with what the store holds, at every moment at which others can run.
    """

    def __init__(self, resources: ResourceStore) -> None:
        self._resources = resources
        self._held: dict[str, Ledger] = {}
        self._end: Callable[[], None] | None = resources.on_change(self._changed)

    def close(self) -> None:
        if self._end is not None:
            self._end()
            self._end = None

    @contextmanager
    def of(self, namespace: str) -> Iterator[Ledger]:
        """For questions that are asked at once; one that fails leaves nothing behind that could be wrong."""
        # Taken out meanwhile: what fails within may have changed half of it, so it does not come back.
        ledger = self._held.pop(namespace, None)
        if ledger is None:
            ledger = Ledger(lambda resource: self._resources.list(resource, namespace).items)
        yield ledger
        self._held[namespace] = ledger

    def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            metadata = change.object["metadata"]
            namespace = metadata.get("namespace", "")
            ledger = self._held.get(namespace)
            if ledger is None:
                continue
            gone = change.type is ChangeType.DELETED
            if gone and change.resource == QUOTAS and not self._resources.count(QUOTAS, namespace):
                del self._held[namespace]
                continue
            try:
                ledger.replace(change.resource, metadata["name"], None if gone else change.object)
            except Exception:  # who asks next hears of it, when it is made anew
                log.warning("%s %s/%s cannot be counted", change.resource, namespace, metadata["name"], exc_info=True)
                del self._held[namespace]


@asynccontextmanager
async def _turn(lock: asyncio.Lock) -> AsyncIterator[None]:
    try:
        async with timeout(TURN_S_MAX):
            await lock.acquire()
    except TimeoutError as error:
        raise Temporary("too many writes wait for the quotas of the namespace") from error
    try:
        yield
    finally:
        lock.release()


def _field(kind: Kind, obj: ReadOnlyObject) -> str:
    """Where an object says how many agents there shall be; empty for one that is only counted."""
    if kind.plural == AGENTSET.plural:
        return "spec.replicas"
    if kind.plural == AGENTCLUSTER.plural:
        return next(f"spec.{name}" for name in ("agents", "regions", "replicas") if obj["spec"].get(name) is not None)
    return ""
