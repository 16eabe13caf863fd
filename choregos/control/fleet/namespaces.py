"""Empties a namespace that is being deleted, says meanwhile what it waits for, then lets it go.

Invariant: a namespace disappears only after everything declarative in it, agents included, because their sets hold
finalizers of their own. It does not create namespaces. The conditions and their words are Kubernetes' own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from choregos.control.loop import DONE, Key, Result
from choregos.control.objects import NAMESPACES, FencedObjects
from choregos.foundation.clock import Clock
from choregos.resources import meta
from choregos.resources.kind import Kind, ReadOnlyObject

LOOK_AGAIN_S = 0.2
"""How soon a namespace that still drains is looked at again: nothing tells which of its objects was the last."""

CONTENT, FINALIZERS = "NamespaceContentRemaining", "NamespaceFinalizersRemaining"


class NamespaceReconciler:
    """Drives one Namespace per key.

    Args:
        kinds: the declarative ones.
    """

    name = "namespaces"

    def __init__(self, objects: FencedObjects, kinds: Iterable[Kind], clock: Clock) -> None:
        self._objects = objects
        self._kinds = [kind for kind in kinds if kind.namespaced]
        self._clock = clock

    def keys(self) -> Iterable[Key]:
        for namespace in self._objects.list(NAMESPACES):
            if meta.is_deleting(namespace):
                yield Key("", namespace["metadata"]["name"])

    async def reconcile(self, key: Key) -> Result:
        namespace = self._objects.find(NAMESPACES, "", key.name)
        if namespace is None or not meta.is_deleting(namespace):
            return DONE
        left = await self._delete_content(key.name)
        finalizers = namespace["metadata"].get("finalizers") or ()
        if left or list(finalizers) != [meta.NAMESPACE_FINALIZER]:
            status = terminating(namespace, left, now_ms=self._clock.wall_ms())
            namespace = await self._objects.write_status(NAMESPACES, namespace, status)
        if left:
            return Result(LOOK_AGAIN_S)
        if meta.NAMESPACE_FINALIZER in finalizers:
            await self._objects.release(NAMESPACES, namespace, meta.NAMESPACE_FINALIZER)
        return DONE

    async def _delete_content(self, namespace: str) -> list[tuple[Kind, ReadOnlyObject]]:
        """Begins the deletion of everything in it; what there was."""
        found: list[tuple[Kind, ReadOnlyObject]] = []
        for kind in self._kinds:
            for obj in self._objects.list(kind.plural, namespace):
                found.append((kind, obj))
                if not meta.is_deleting(obj):
                    await self._objects.delete(kind.plural, obj)
        return found


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
