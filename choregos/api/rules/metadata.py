"""What the server does to an object's metadata when it is created, changed or deleted. Pure.

Invariants: uid, name, namespace, creationTimestamp and deletionTimestamp never change once set; a write to the object
leaves its status alone and a write to its status leaves everything else alone. Objects given in are not changed.
`resources.meta.changed` raises the generation, once validation has made the new object comparable with the old.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from choregos.api.rules.options import DeleteOptions
from choregos.api.rules.status import Refusal, bad_request
from choregos.foundation.errors import Conflict, FieldError, Invalid
from choregos.resources import meta
from choregos.resources.kind import Kind, Object

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"

_FINALIZERS = {
    (meta.GROUP, "agentclusters"): meta.AGENTS_FINALIZER,
    ("", "namespaces"): meta.NAMESPACE_FINALIZER,
}


_INSEPARABLE = {"AgentSet": "the agents of an AgentSet", "Namespace": "what is in a namespace"}
"""Kinds whose dependents end with them: a deletion that shall keep those is refused, not carried out otherwise."""

_PROPAGATION = {"Orphan": meta.ORPHAN_FINALIZER, "Foreground": meta.FOREGROUND_FINALIZER}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a write takes from the outside world.

    Attributes:
        now_ms: wall clock, milliseconds since the epoch.
        uid: for an object to be created.
        suffix: ending of a generated name.
    """

    now_ms: int
    uid: str
    suffix: str


def prepare_create(kind: Kind, body: Object, *, namespace: str, stamp: Stamp) -> Object:
    """The object to validate and store for a POST of `body` to a collection.

    Raises:
        Refusal: 400, the body contradicts the request's path or carries a resourceVersion.
        Invalid: it has neither a name nor generateName.
    """
    check_type(kind, body)
    metadata = _metadata(kind, body, namespace)
    if metadata.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    if not metadata.get("name"):
        if not metadata.get("generateName"):
            cause = FieldError(
                "metadata.name", "Required value: name or generateName is required", "FieldValueRequired"
            )
            raise Invalid("the object has no name", (cause,))
        metadata["name"] = f"{metadata['generateName']}{stamp.suffix}"
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "managedFields"):
        metadata.pop(name, None)
    created = meta.created({**body, "metadata": metadata}, stamp.uid, stamp.now_ms)
    created = _with_own_label(kind, _with_own_finalizer(kind, created))
    if kind.has_status:
        # Never absent: clients that wait for a condition read it at once.
        created["status"] = {}
    return created


def _with_own_finalizer(kind: Kind, document: Object) -> Object:
    """`document` with the finalizer that holds every object of its kind until a controller has cleaned up behind it."""
    finalizer = _FINALIZERS.get((kind.group, kind.plural))
    return document if finalizer is None else meta.with_finalizer(document, finalizer)


def _with_own_label(kind: Kind, document: Object) -> Object:
    """`document` with the label by which selectors name a namespace: its name, whatever a client wrote there."""
    found, labels = document["metadata"], document["metadata"].get("labels") or {}
    if kind.kind != "Namespace" or not isinstance(labels, dict):
        return document
    return {**document, "metadata": {**found, "labels": {**labels, meta.NAMESPACE_NAME_LABEL: found["name"]}}}


def check_type(kind: Kind, body: Object) -> None:
    """The body must be of the kind that the path names; both may be left out. Raises: Refusal 400."""
    api_version, name = body.get("apiVersion"), body.get("kind")
    accepted = {kind.api_version, *(f"{group}/{version}" if group else version for group, version in kind.aliases)}
    if api_version is not None and api_version not in accepted:
        raise bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version ({kind.api_version})"
        )
    if name is not None and name != kind.kind:
        raise bad_request(f"the kind in the data ({name}) does not match the expected kind ({kind.kind})")
    body["apiVersion"], body["kind"] = kind.api_version, kind.kind


def _metadata(kind: Kind, body: Object, namespace: str) -> dict[str, Any]:
    metadata = dict(body.get("metadata") or {})
    finalizers = metadata.get("finalizers")
    if finalizers is not None and not isinstance(finalizers, list):
        raise bad_request("metadata.finalizers must be a list")
    if not kind.namespaced:
        metadata.pop("namespace", None)
        return metadata
    if metadata.get("namespace") not in (None, "", namespace):
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    metadata["namespace"] = namespace
    return metadata


_KEPT = (
    "uid",
    "name",
    "namespace",
    "generateName",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
)


def prepare_update(kind: Kind, old: Object, body: Object, *, subresource: str = "") -> Object:
    """The object that replaces `old` when `body` is written over it, its resourceVersion being old's.

    Args:
        subresource: `status` to write the status only; empty to write all else.

    Raises:
        Refusal: 400, the body is of another object; 422, it adds finalizers to an object that is being deleted.
        Conflict: the body carries a resourceVersion or uid that is not the stored object's.
    """
    check_type(kind, body)
    before = old["metadata"]
    metadata = _metadata(kind, body, before.get("namespace", ""))
    if metadata.get("name") not in (None, "", before["name"]):
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({before['name']})"
        )
    if metadata.get("resourceVersion") not in (None, "", "0", before["resourceVersion"]):
        raise Conflict(MODIFIED)
    if metadata.get("uid") not in (None, "", before["uid"]):
        raise Conflict(f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object: {before['uid']}")
    if subresource == "status":
        return {**old, "status": body.get("status") or {}}
    metadata.pop("managedFields", None)
    metadata.pop("selfLink", None)
    for name in _KEPT:
        metadata.pop(name, None)
    metadata = {name: before[name] for name in _KEPT if name in before} | metadata
    _check_finalizers(kind, before, metadata)
    updated = _with_own_label(kind, {**body, "metadata": metadata})
    if kind.has_status:
        updated.pop("status", None)
        if "status" in old:
            updated["status"] = old["status"]
    # A manifest that is written over the object says nothing of finalizers and means nothing by that.
    return updated if meta.is_deleting(old) else _with_own_finalizer(kind, updated)


def _check_finalizers(kind: Kind, before: dict[str, Any], metadata: dict[str, Any]) -> None:
    if "deletionTimestamp" not in before:
        return
    added = set(metadata.get("finalizers") or ()) - set(before.get("finalizers") or ())
    if added:
        message = "Forbidden: no new finalizers can be added if the object is being deleted"
        raise Invalid(kind.kind, (FieldError("metadata.finalizers", message, "FieldValueForbidden"),))


def is_finished(document: Object) -> bool:
    """Whether nothing holds the object any more: its deletion has begun and no finalizer is left."""
    metadata = document["metadata"]
    return bool(metadata.get("deletionTimestamp")) and not metadata.get("finalizers")


def prepare_delete(kind: Kind, old: Object, options: DeleteOptions, *, now_ms: int) -> Object:
    """`old` marked as being deleted; the same object if it is marked so already. See `is_finished` for what to do next.

    What shall become of its dependents is a finalizer, which the garbage collector obeys. A later deletion that says
    otherwise overrules an earlier one, as in Kubernetes.

    Raises:
        Conflict: a precondition does not hold.
        Refusal: 403, the object may not be deleted; 422, its dependents cannot be kept.
    """
    metadata = old["metadata"]
    check_preconditions(options, metadata)
    if kind.kind == "Namespace" and metadata["name"] == "default":
        raise Refusal(403, "Forbidden", 'namespaces "default" is forbidden: this namespace may not be deleted')
    document = _with_propagation(kind, old, options.propagation)
    if meta.is_deleting(old):
        return document
    document = meta.deleting(document, now_ms, options.grace_s or 0)
    if kind.kind == "Namespace":
        document["status"] = {**old.get("status", {}), "phase": "Terminating"}
    return document


def _with_propagation(kind: Kind, old: Object, policy: str) -> Object:
    """`old` with the finalizer of this policy and of no other; the same object if that is so already."""
    if policy == "Orphan" and kind.kind in _INSEPARABLE:
        message = f"{_INSEPARABLE[kind.kind]} cannot be kept without it"
        cause = FieldError("propagationPolicy", message, "FieldValueForbidden")
        raise Refusal(422, "Invalid", f"propagationPolicy: {message}", causes=(cause,))
    if not policy or kind.plane != "declarative":
        return old
    document = old
    for name, finalizer in _PROPAGATION.items():
        if name == policy:
            document = meta.with_finalizer(document, finalizer)
        elif meta.has_finalizer(document, finalizer):
            document = meta.without_finalizer(document, finalizer)
    return old if document == old else document


def check_preconditions(options: DeleteOptions, metadata: dict[str, Any]) -> None:
    """Raises: Conflict if the uid or resourceVersion that the client demands is not the object's."""
    if options.uid and options.uid != metadata["uid"]:
        raise Conflict(f"Precondition failed: UID in precondition: {options.uid}, UID in object: {metadata['uid']}")
    if options.revision and options.revision != metadata["resourceVersion"]:
        found = metadata["resourceVersion"]
        raise Conflict(
            f"Precondition failed: ResourceVersion in precondition: {options.revision}, "
            f"ResourceVersion in object meta: {found}"
        )
