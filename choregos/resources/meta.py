"""Metadata of objects: conditions, owners, finalizers, generation, and the names choregos gives its labels.

Works on objects as decoded JSON. Invariant: no function changes an object it was given, because objects that come
from the store are shared; what is new is a new object, which may share unchanged parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from choregos.foundation.timestamp import rfc3339
from choregos.resources.kind import Object, ReadOnlyObject, equal

GROUP = "choregos.dev"
API_VERSION = f"{GROUP}/v1"
DEFAULT_NAMESPACE = "default"
LOCAL_REGION = "local"

AGENTS_FINALIZER = f"{GROUP}/agents"
"""Held by an AgentCluster or AgentSet until its agents are gone."""

NAMESPACE_FINALIZER = "kubernetes"
"""Held by a Namespace until what is in it is gone."""

ORPHAN_FINALIZER = "orphan"
"""Held by an object being deleted until its dependents no longer name it as their owner; they stay."""

FOREGROUND_FINALIZER = "foregroundDeletion"
"""Held by an object being deleted until its dependents are gone."""

CLUSTER_LABEL = f"{GROUP}/cluster"
TEMPLATE_LABEL = f"{GROUP}/template"
SET_LABEL = f"{GROUP}/set"
REGION_LABEL = f"{GROUP}/region"

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""On a Namespace: its name."""

DECLARED_REPLICAS_ANNOTATION = f"{GROUP}/declared-replicas"
"""On an AgentSet: the count its cluster last declared. While that stays, `kubectl scale` of the set stays too."""

CHANGE_CAUSE_ANNOTATION = "kubernetes.io/change-cause"
"""Why a template was changed, in the words of whoever did; on a set or its cluster, and kept with the revision."""

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


def condition(obj: ReadOnlyObject, type: str) -> Mapping[str, Any] | None:
    """The condition of that type in `obj.status.conditions`, or None."""
    for entry in (obj.get("status") or {}).get("conditions") or ():
        if entry.get("type") == type:
            return entry  # type: ignore[no-any-return]
    return None


def is_true(obj: ReadOnlyObject, type: str) -> bool:
    entry = condition(obj, type)
    return entry is not None and entry.get("status") == TRUE


def set_condition(
    conditions: Sequence[Mapping[str, Any]],
    type: str,
    status: bool | str,
    reason: str,
    message: str,
    *,
    now_ms: int,
    generation: int,
) -> list[dict[str, Any]]:
    """`conditions` with this one in it, at its place or at the end.

    `lastTransitionTime` is kept while the status stays the same, so a condition that says the same again is equal to
    the one before, and the object need not be written.

    Args:
        status: True, False, or one of the words `True`, `False`, `Unknown`.
        reason: CamelCase, stable, for programs.
        message: for people.
        now_ms: wall clock.
        generation: the `metadata.generation` that was looked at.
    """
    word = status if isinstance(status, str) else (TRUE if status else FALSE)
    changed = {
        "type": type,
        "status": word,
        "reason": reason,
        "message": message,
        "lastTransitionTime": rfc3339(now_ms),
        "observedGeneration": generation,
    }
    result = [dict(entry) for entry in conditions]
    for index, entry in enumerate(result):
        if entry.get("type") == type:
            if entry.get("status") == word:
                changed["lastTransitionTime"] = entry.get("lastTransitionTime") or changed["lastTransitionTime"]
            result[index] = changed
            return result
    result.append(changed)
    return result


def created(obj: ReadOnlyObject, uid: str, now_ms: int) -> Object:
    """A new object with what the server adds: uid, creationTimestamp, generation 1."""
    stamps = {"uid": uid, "creationTimestamp": rfc3339(now_ms), "generation": 1}
    return {**obj, "metadata": {**obj["metadata"], **stamps}}


_SERVER_OWNED = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")


def changed(previous: ReadOnlyObject, obj: ReadOnlyObject) -> Object:
    """`obj` as the successor of `previous`: it keeps uid and creation, and a changed spec raises the generation.

    Everything except metadata and status counts as spec, as in Kubernetes.
    """
    before = previous["metadata"]
    kept = {key: before[key] for key in _SERVER_OWNED if key in before}
    if not equal(_desired(previous), _desired(obj)):
        kept["generation"] = before.get("generation", 0) + 1
    return {**obj, "metadata": {**obj["metadata"], **kept}}


def _desired(obj: ReadOnlyObject) -> dict[str, Any]:
    return {key: value for key, value in obj.items() if key not in {"apiVersion", "metadata", "status"}}


def generation(obj: ReadOnlyObject) -> int:
    return int(obj["metadata"].get("generation", 0))


def is_deleting(obj: ReadOnlyObject) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def deleting(obj: ReadOnlyObject, now_ms: int, grace_s: int = 0) -> Object:
    """`obj` with its deletion begun; one that has begun already stays as it is. Raises the generation."""
    if is_deleting(obj):
        return dict(obj)
    stamps = {
        "deletionTimestamp": rfc3339(now_ms),
        "deletionGracePeriodSeconds": grace_s,
        "generation": generation(obj) + 1,
    }
    return {**obj, "metadata": {**obj["metadata"], **stamps}}


def has_finalizer(obj: ReadOnlyObject, finalizer: str) -> bool:
    return finalizer in (obj["metadata"].get("finalizers") or ())


def with_finalizer(obj: ReadOnlyObject, finalizer: str) -> Object:
    if has_finalizer(obj, finalizer):
        return dict(obj)
    finalizers = [*(obj["metadata"].get("finalizers") or ()), finalizer]
    return {**obj, "metadata": {**obj["metadata"], "finalizers": finalizers}}


def without_finalizer(obj: ReadOnlyObject, finalizer: str) -> Object:
    """`obj` without it; an empty list is left out altogether."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "finalizers"}
    rest = [entry for entry in obj["metadata"].get("finalizers") or () if entry != finalizer]
    return {**obj, "metadata": {**metadata, "finalizers": rest} if rest else metadata}


def change_cause(obj: ReadOnlyObject) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(CHANGE_CAUSE_ANNOTATION, ""))


def controlled_by(owner: ReadOnlyObject) -> dict[str, Any]:
    """An ownerReference that makes `owner` the controller and has the dependent removed with it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
