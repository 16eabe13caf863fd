"""The ResourceQuotas of namespaces, where objects are written.

Invariant: a write that uses more of a quota is stored together with that quota's new status, each as it was read. So of
two writes that were judged by the same state, at any two servers, one is a conflict and judged again. Writes at one
server take turns, so that only servers compete. What is used is computed from the objects each time and never added to
what a status says; who keeps that true when objects shrink or go is the fleet's reconciler.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any
from weakref import WeakValueDictionary

from choregos.api.rules.status import Refusal, Subject
from choregos.foundation.errors import FieldError, Temporary
from choregos.foundation.timeout import timeout
from choregos.resources.kind import Kind, Object, ReadOnlyObject
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.quotas.admission import admission, bounds
from choregos.resources.registry import RESOURCEQUOTA
from choregos.store.resources import Named, ResourceStore

QUOTAS = RESOURCEQUOTA.plural

QUOTAS_MAX = 100
"""Quotas of one namespace; all may have to be stored together with one object."""

TURN_S_MAX = 15.0
"""Longest wait for a turn: when the store does not answer, those who wait fail together and not one after the other."""


class Quotas:
    """Of all namespaces of a store, for one server."""

    def __init__(self, resources: ResourceStore) -> None:
        self._resources = resources
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

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
        if not quotas:
            return []
        verdict = admission(quotas, kind.plural, obj, lambda resource: self._resources.list(resource, namespace).items)
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
