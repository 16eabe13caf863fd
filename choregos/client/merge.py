"""The patch that `apply` sends: a three-way JSON merge patch, as `kubectl apply` makes it. Pure.

What was applied last is remembered in kubectl's own annotation, so that kubectl and choregos can take turns on one
object. RFC 7386; Kubernetes' `jsonmergepatch.CreateThreeWayJSONMergePatch`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from choregos.foundation.errors import Invalid

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

ANNOTATION_BYTES_MAX = 256 * 1024
"""Kubernetes' limit of all annotations of an object."""

_GO_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def with_last_applied(desired: Mapping[str, Any]) -> dict[str, Any]:
    """`desired` with the annotation that holds it.

    Raises:
        Invalid: it is too long for that.
    """
    metadata = dict(desired.get("metadata") or {})
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != LAST_APPLIED}
    bare = {**desired, "metadata": {**metadata, "annotations": annotations}}
    # kubectl's form to the letter, or each would find the other's to be a change: compact, sorted, as Go escapes it.
    text = json.dumps(bare, separators=(",", ":"), sort_keys=True, ensure_ascii=False).translate(_GO_ESCAPES) + "\n"
    if len(text.encode()) > ANNOTATION_BYTES_MAX:
        raise Invalid(
            f"the manifest has {len(text.encode()) // 1024} KiB, and {LAST_APPLIED}, which is to hold a copy of it, "
            f"at most {ANNOTATION_BYTES_MAX // 1024}: apply it server-side (`--server-side`, `server_side=True`)"
        )
    return {**desired, "metadata": {**metadata, "annotations": {**annotations, LAST_APPLIED: text}}}


def last_applied(live: Mapping[str, Any]) -> dict[str, Any]:
    """What was applied to `live` last; empty if nothing was, or the annotation is damaged."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def apply_patch(live: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """What turns `live` into `desired`: adds and changes what it says, removes what the last apply said and it does
    not, leaves the rest. Empty if there is nothing to do."""
    modified = with_last_applied(desired)
    changes = _changes(live, modified)
    # A manifest that drops its labels altogether means its own ones, not those that others have set.
    keeping = {**modified, "metadata": {"labels": {}, **modified["metadata"]}}
    removals = _removals(last_applied(live), keeping, live)
    return _overlay(changes, removals)


def _changes(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `wanted` that are not so in `live`; never a removal, except where `wanted` says null."""
    patch: dict[str, Any] = {}
    for key, value in wanted.items():
        present = live.get(key)
        if isinstance(value, Mapping) and isinstance(present, Mapping):
            inner = _changes(present, value)
            if inner:
                patch[key] = inner
        elif key not in live:
            if value is not None:
                patch[key] = value
        elif present != value or type(present) is not type(value):
            patch[key] = value
    return patch


def _removals(before: Mapping[str, Any], wanted: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """Nulls for the keys of `before` that `wanted` has no more and `live` still has."""
    patch: dict[str, Any] = {}
    for key, value in before.items():
        if key not in live:
            continue
        if key not in wanted:
            patch[key] = None
        elif isinstance(value, Mapping) and isinstance(wanted[key], Mapping) and isinstance(live[key], Mapping):
            inner = _removals(value, wanted[key], live[key])
            if inner:
                patch[key] = inner
    return patch


def _overlay(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(lower)
    for key, value in upper.items():
        mine = result.get(key)
        result[key] = _overlay(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return result
