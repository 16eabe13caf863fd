"""Keeps the status of every ResourceQuota true: what is in force, and what its namespace uses of it.

The API server writes it whenever something uses more; this is for all else: what shrinks, goes, or is made by
controllers, and quotas that are new or changed. It refuses nothing. Invariant: a change of one namespace is looked at
with the objects of that namespace only, and not at all if it has no quota; however fast agents come and go, each quota
is looked at a few times a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import QUOTAS, FencedObjects
from choregos.control.pace import Pace
from choregos.foundation.clock import Clock
from choregos.resources.quotas.admission import bounds
from choregos.resources.quotas.usage import DECLARING, declares_as, limits, quota_status, used
from choregos.store.resources import Change
from choregos.store.watch import ChangeType


class QuotaReconciler:
    """Drives one ResourceQuota per key."""

    name = "resourcequotas"

    def __init__(self, objects: FencedObjects, clock: Clock) -> None:
        self._objects = objects
        self._pace = Pace(clock)

    def keys(self) -> Iterable[Key]:
        for quota in self._objects.list(QUOTAS):
            yield Key(quota["metadata"]["namespace"], quota["metadata"]["name"])

    def concerned(self, change: Change) -> Iterator[Key]:
        """The quotas to look at again after a change."""
        metadata = change.object["metadata"]
        namespace = metadata.get("namespace", "")
        if change.resource == QUOTAS:
            yield Key(namespace, metadata["name"])
        quotas = self._objects.list(QUOTAS, namespace) if namespace else ()
        if quotas and _counts(change):
            for quota in quotas:
                if bounds(quota, change.resource):
                    yield Key(namespace, quota["metadata"]["name"])

    async def reconcile(self, key: Key) -> Result:
        quota = self._objects.find(QUOTAS, key.namespace, key.name)
        if quota is None:
            self._pace.forget(key)
        elif (wait_s := self._pace.wait_s(key)) > 0:
            return Result(wait_s)
        else:
            self._pace.written(key)
            amounts = used(limits(quota), lambda resource: self._objects.list(resource, key.namespace))
            await self._objects.write_status(QUOTAS, quota, quota_status(quota, amounts))
        return DONE


def _counts(change: Change) -> bool:
    """Whether it can make a difference to a quota: something comes or goes, declares other agents, or holds others."""
    if change.previous is None or change.type is ChangeType.DELETED:
        return True
    return change.resource in DECLARING and not declares_as(change.object, change.previous)
