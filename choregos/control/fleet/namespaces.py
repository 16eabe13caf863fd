"""Empties a namespace that is being deleted, says meanwhile what it waits for, then lets it go.

Invariant: a namespace disappears only after everything declarative in it, agents included, because their sets hold
finalizers of their own, and last the events, as the end of all else makes more. What is told later of a namespace that
is gone is removed too: nothing of it is there for whoever makes one of that name. It does not create namespaces. The
conditions and their words are Kubernetes' own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import NAMESPACES, FencedObjects
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Conflict, NotFound
from choregos.resources import meta
from choregos.resources.kind import Kind, ReadOnlyObject
from choregos.resources.kinds.event import EVENT
from choregos.store.resources import Change, ResourceStore
from choregos.store.watch import ChangeType

LOOK_AGAIN_S = 0.2
"""How soon a namespace that still drains is looked at again: nothing tells which of its objects was the last."""

EVENTS_PER_PASS = 500
"""Events removed before the namespace is looked at again."""

CONTENT, FINALIZERS = "NamespaceContentRemaining", "NamespaceFinalizersRemaining"


class NamespaceReconciler:
    """Drives one Namespace per key.

    Args:
        kinds: the declarative ones.
        events: of a log of its own, so no fence of the fleet's guards them; removing one twice does no harm.
    """

    name = "namespaces"

    def __init__(self, objects: FencedObjects, kinds: Iterable[Kind], events: ResourceStore, clock: Clock) -> None:
        self._objects = objects
        self._kinds = [kind for kind in kinds if kind.namespaced]
        self._events = events
        self._clock = clock

    def keys(self) -> Iterable[Key]:
        for namespace in self._objects.list(NAMESPACES):
            if meta.is_deleting(namespace):
                yield Key("", namespace["metadata"]["name"])
        for name in {event["metadata"]["namespace"] for event in self._events.list(EVENT.plural).items}:
            if self._is_gone(name):
                yield Key("", name)

    def concerned(self, change: Change) -> Iterator[Key]:
        """The namespace to look at again after a change of an event: one that is gone."""
        name = change.object["metadata"]["namespace"]
        if change.type is not ChangeType.DELETED and self._is_gone(name):
            yield Key("", name)

    async def reconcile(self, key: Key) -> Result:
        namespace = self._objects.find(NAMESPACES, "", key.name)
        if namespace is None:
            return await self._forget(key.name)
        if not meta.is_deleting(namespace):
            return DONE
        left = self._content(key.name)
        finalizers = namespace["metadata"].get("finalizers") or ()
        if left or list(finalizers) != [meta.NAMESPACE_FINALIZER]:
            # Before anything is deleted: that may take long, and whoever waits wants to know for what.
            status = terminating(namespace, left, now_ms=self._clock.wall_ms())
            namespace = await self._objects.write_status(NAMESPACES, namespace, status)
        if left:
            await self._delete(left)
            return Result(LOOK_AGAIN_S)
        if meta.NAMESPACE_FINALIZER in finalizers:
            await self._objects.release(NAMESPACES, namespace, meta.NAMESPACE_FINALIZER)
        return DONE

    def _content(self, namespace: str) -> Sequence[tuple[Kind, ReadOnlyObject]]:
        """What is in it; the events only once there is nothing else."""
        content = [(kind, obj) for kind in self._kinds for obj in self._objects.list(kind.plural, namespace)]
        return content or [(EVENT, event) for event in self._events.list(EVENT.plural, namespace).items]

    async def _delete(self, content: Sequence[tuple[Kind, ReadOnlyObject]]) -> None:
        """Begins the deletion of it."""
        await self._delete_events([obj for kind, obj in content if kind is EVENT])
        for kind, obj in content:
            if kind is not EVENT and not meta.is_deleting(obj):
                await self._objects.delete(kind.plural, obj)

    async def _delete_events(self, events: Sequence[ReadOnlyObject]) -> None:
        for event in events[:EVENTS_PER_PASS]:
            try:
                await self._events.delete(EVENT.plural, dict(event))
            except (Conflict, NotFound):
                continue  # it was told again, or has expired: the next pass sees

    def _is_gone(self, name: str) -> bool:
        # What is told of things that are in no namespace stands in the default one, which cannot be deleted.
        return name != meta.DEFAULT_NAMESPACE and self._objects.find(NAMESPACES, "", name) is None

    async def _forget(self, name: str) -> Result:
        """Removes what was told of a namespace after it had gone."""
        events = self._events.list(EVENT.plural, name).items if self._is_gone(name) else ()
        await self._delete_events(events)
        return Result(LOOK_AGAIN_S) if events else DONE


def terminating(
    namespace: ReadOnlyObject, left: Sequence[tuple[Kind, ReadOnlyObject]], *, now_ms: int
) -> dict[str, Any]:
    """The status of a namespace that is being deleted; equal to the one it has if nothing is new. Pure.

    Args:
        left: what is in it, by kind.
    """
    status = namespace.get("status") or {}
    at: Mapping[str, Any] = {"now_ms": now_ms, "generation": meta.generation(namespace)}
    conditions = meta.set_condition(status.get("conditions") or (), CONTENT, *_content(left), **at)
    conditions = meta.set_condition(conditions, FINALIZERS, *_finalizers(left), **at)
    return {**status, "phase": "Terminating", "conditions": conditions}


def _content(left: Sequence[tuple[Kind, ReadOnlyObject]]) -> tuple[bool, str, str]:
    if not left:
        return False, "ContentRemoved", "All content successfully removed"
    counts = Counter(f"{kind.plural}.{kind.group}" if kind.group else kind.plural for kind, _ in left)
    told = ", ".join(f"{resource} has {count} resource instances" for resource, count in sorted(counts.items()))
    return True, "SomeResourcesRemain", f"Some resources are remaining: {told}"


def _finalizers(left: Sequence[tuple[Kind, ReadOnlyObject]]) -> tuple[bool, str, str]:
    counts = Counter(each for _, obj in left for each in obj["metadata"].get("finalizers") or ())
    if not counts:
        return False, "ContentHasNoFinalizers", "All content-preserving finalizers finished"
    told = ", ".join(f"{finalizer} in {count} resource instances" for finalizer, count in sorted(counts.items()))
    return True, "SomeFinalizersRemain", f"Some content in the namespace has finalizers remaining: {told}"
