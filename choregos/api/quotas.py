"""The ResourceQuotas of namespaces, where objects are written.

Invariant: a write that uses more of a quota is stored together with that quota's new status, each as it was read. So of
two writes that were judged by the same state, at any two servers, one is a conflict and judged again. Writes at one
server go in groups (`quota_groups`), so that only servers compete. What is used comes from the objects, by a ledger of
each namespace that has quotas, and never from what a quota says; who keeps that true when objects shrink or go is the
fleet's reconciler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from choregos.api.quota_groups import Admit, QuotaGroups
from choregos.api.rules.status import Refusal, Subject
from choregos.foundation.errors import ChoregosError, FieldError
from choregos.resources.kind import Kind, Object, ReadOnlyObject
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.quotas.admission import admission, bounds
from choregos.resources.quotas.ledger import Ledger
from choregos.resources.quotas.usage import DECLARING, declares_as
from choregos.resources.registry import RESOURCEQUOTA
from choregos.store.resources import Change, ResourceStore
from choregos.store.watch import ChangeType

log = logging.getLogger(__name__)

QUOTAS = RESOURCEQUOTA.plural

QUOTAS_MAX = 100
"""Quotas of one namespace; all may have to be stored together with one object."""


class Quotas:
    """Of all namespaces of a store, for one server, until `close`.

    Args:
        attempts_max: as of `QuotaGroups`.
    """

    def __init__(self, resources: ResourceStore, attempts_max: int) -> None:
        self._resources = resources
        self._ledgers = _Ledgers(resources)
        self._groups = QuotaGroups(resources, self._judging, QUOTAS, attempts_max)

    async def close(self) -> None:
        await self._groups.close()
        self._ledgers.close()

    def concern(self, kind: Kind, obj: ReadOnlyObject, previous: ReadOnlyObject | None = None) -> bool:
        """Whether it may use more of a quota to store an object, which was `previous`; if not, nobody need be asked."""
        if not kind.namespaced or kind.plane != "declarative":
            return False
        if previous is not None and not (kind.plural in DECLARING and not declares_as(obj, previous)):
            return False
        quotas = self._of(obj["metadata"].get("namespace", ""))
        return any(kind.plural == QUOTAS or bounds(quota, kind.plural) for quota in quotas)

    async def store(self, kind: Kind, subject: Subject, obj: Object) -> Object:
        """Stores an object that concerns quotas. Raises: as `QuotaGroups.store`."""
        return await self._groups.store(obj["metadata"].get("namespace", ""), kind, subject, obj)

    def rehearse(self, kind: Kind, subject: Subject, obj: Object) -> None:
        """Raises what `store` would, as far as that can be known without storing anything."""
        self._groups.check(kind, obj)
        with self._judging(obj["metadata"].get("namespace", "")) as admit:
            admit(kind, subject, obj)

    @contextmanager
    def _judging(self, namespace: str) -> Iterator[Admit]:
        """In it what was admitted counts for what is judged after it; with its end nothing of that remains."""
        quotas = self._of(namespace)
        with self._ledgers.of(namespace) as ledger:
            before: list[tuple[str, str, ReadOnlyObject | None]] = []

            def admit(kind: Kind, subject: Subject, obj: Object) -> Sequence[Object]:
                admitted = _admitted(quotas, ledger, kind, subject, obj)
                name = obj["metadata"]["name"]
                before.append((kind.plural, name, ledger.replace(kind.plural, name, obj)))
                return admitted

            try:
                yield admit
            finally:
                for resource, name, previous in reversed(before):
                    ledger.replace(resource, name, previous)

    def _of(self, namespace: str) -> Sequence[Object]:
        return self._resources.list(QUOTAS, namespace).items


def _admitted(
    quotas: Sequence[Object], ledger: Ledger, kind: Kind, subject: Subject, obj: ReadOnlyObject
) -> Sequence[Object]:
    """The quotas of which an object uses more, with the status they then have. Raises: Refusal 403."""
    verdict = admission(quotas, kind.plural, obj, ledger)
    excesses = [*verdict.excesses]
    if kind.plural == QUOTAS and ledger.count(QUOTAS) >= QUOTAS_MAX:
        excesses.append(f"a namespace has at most {QUOTAS_MAX} quotas")
    if excesses:
        field = _field(kind, obj)
        causes = tuple(FieldError(field, excess, "FieldValueForbidden") for excess in excesses if field)
        quoted = f'{subject.qualified_resource} "{subject.name}"'
        raise Refusal(403, "Forbidden", f"{quoted} is forbidden: {'; '.join(excesses)}", causes=causes)
    return verdict.quotas


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
        # Taken out meanwhile: where something fails that nobody foresaw, half of it may be changed.
        ledger = self._held.pop(namespace, None)
        if ledger is None:
            ledger = Ledger(lambda resource: self._resources.list(resource, namespace).items)
        try:
            yield ledger
        except ChoregosError:
            self._held[namespace] = ledger
            raise
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


def _field(kind: Kind, obj: ReadOnlyObject) -> str:
    """Where an object says how many agents there shall be; empty for one that is only counted."""
    if kind.plural == AGENTSET.plural:
        return "spec.replicas"
    if kind.plural == AGENTCLUSTER.plural:
        return next(f"spec.{name}" for name in ("agents", "regions", "replicas") if obj["spec"].get(name) is not None)
    return ""
