"""From an AgentCluster to the AgentSets it asks for. Pure: the fleet's reconciler writes the difference.

Invariant: the same cluster always gives the same sets, with distinct names, in the order of the manifest. Expects an
object that `validation.validate` has returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from choregos.foundation.errors import Invalid
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.meta import (
    API_VERSION,
    CHANGE_CAUSE_ANNOTATION,
    CLUSTER_LABEL,
    DECLARED_REPLICAS_ANNOTATION,
    DEFAULT_NAMESPACE,
    LOCAL_REGION,
    REGION_LABEL,
    TEMPLATE_LABEL,
    change_cause,
    controlled_by,
)
from choregos.resources.names import dns_label
from choregos.resources.validation import validate

_OF_THE_SET = ("strategy", "progressDeadlineSeconds", "revisionHistoryLimit")
_NOT_IN_TEMPLATE = frozenset({"replicas", *_OF_THE_SET})


@dataclass(frozen=True, slots=True)
class Share:
    """So many agents of one template in one region.

    Attributes:
        entry: an entry of `spec.agents`, or what stands for it in the second shape.
        region: empty if the manifest names none.
    """

    entry: Mapping[str, Any]
    replicas: int
    region: str = ""


def agent_sets(cluster: ReadOnlyObject, home: str = LOCAL_REGION) -> list[Object]:
    """The AgentSets of a cluster in their normal form, without uid and resourceVersion, with an empty status.

    Args:
        home: the region of what names none.

    An AgentSet's name is `<cluster>-<template>`, plus `-<region>` if the manifest has regions.
    """
    return [validate(AGENTSET, _agent_set(cluster, share, home)).object for share in shares(cluster["spec"])]


def shares(spec: Mapping[str, Any]) -> Iterator[Share]:
    """Both shapes as one: which templates, how many, where."""
    if spec.get("agents") is not None:
        for entry in spec["agents"]:
            yield Share(entry, entry.get("replicas", 1))
        return
    needs: Mapping[str, Any] = spec.get("resource_management") or {}
    if spec.get("regions") is None:
        for index, type_name in enumerate(needs):
            # Shared out evenly; what is left over goes to the first ones.
            count, rest = divmod(spec.get("replicas") or 0, len(needs))
            yield Share(_entry(type_name, needs), count + (index < rest))
        return
    for region in spec["regions"]:
        for plural, count in (region.get("agent_distribution") or {}).items():
            yield Share(_entry(agent_type(plural, needs), needs), count, region["name"])


def agent_type(plural: str, known: Mapping[str, Any]) -> str:
    """The type that a key of `agent_distribution` counts: `conversation_agents` is `conversation_agent`.

    A type of `known` is preferred, the key itself first, so a type may end in `s` or have an unusual plural.
    """
    candidates = [plural, *_singulars(plural)]
    default = candidates[1] if len(candidates) > 1 else plural
    return next((candidate for candidate in candidates if candidate in known), default)


def _singulars(plural: str) -> Iterator[str]:
    """What the word may be the plural of, most likely first; nothing if it does not look like one."""
    if len(plural) < 3 or not plural.endswith("s") or plural.endswith(("ss", "us", "is")):
        return
    if plural.endswith("ies"):
        yield f"{plural[:-3]}y"
    if plural.endswith("sses"):
        yield plural[:-2]
    yield plural[:-1]
    if plural.endswith("es"):
        yield plural[:-2]


def set_name(cluster: str, template: str, region: str = "") -> str:
    """`support-conversation`, or `support-conversation-us-east`."""
    return "-".join(dns_label(part) for part in (cluster, template, region) if part)


def _entry(type_name: str, needs: Mapping[str, Any]) -> dict[str, Any]:
    resources = needs.get(type_name)
    return {"name": type_name} if resources is None else {"name": type_name, "resources": resources}


def _agent_set(cluster: ReadOnlyObject, share: Share, home: str) -> Object:
    metadata = cluster["metadata"]
    template = _template(cluster, share.entry)
    spec = {
        "replicas": share.replicas,
        "region": share.region or home,
        "cluster": metadata["name"],
        "template": template,
    }
    spec |= {field: share.entry[field] for field in _OF_THE_SET if share.entry.get(field) is not None}
    annotations = {DECLARED_REPLICAS_ANNOTATION: str(share.replicas)}
    if cause := change_cause(cluster):
        annotations[CHANGE_CAUSE_ANNOTATION] = cause
    return {
        "apiVersion": API_VERSION,
        "kind": "AgentSet",
        "metadata": {
            "name": set_name(metadata["name"], share.entry["name"], share.region),
            "namespace": metadata.get("namespace", DEFAULT_NAMESPACE),
            "labels": {
                CLUSTER_LABEL: metadata["name"],
                TEMPLATE_LABEL: share.entry["name"],
                REGION_LABEL: spec["region"],
            },
            "annotations": annotations,
            "ownerReferences": [controlled_by(cluster)],
        },
        "spec": spec,
    }


def _template(cluster: ReadOnlyObject, entry: Mapping[str, Any]) -> dict[str, Any]:
    template = {key: value for key, value in entry.items() if key not in _NOT_IN_TEMPLATE}
    # In the template, because labels of agents must travel with it to the instance plane.
    template["labels"] = {
        **(entry.get("labels") or {}),
        CLUSTER_LABEL: cluster["metadata"]["name"],
        TEMPLATE_LABEL: entry["name"],
    }
    return template


def updated_set(existing: ReadOnlyObject, desired: ReadOnlyObject) -> Object:
    """`existing` with what its cluster declares now; equal to `existing` when that is nothing new.

    Keeps status, foreign labels and annotations, what only a set has (`paused`, `restartedAt`), and a count that
    somebody gave the set itself (`kubectl scale`) for as long as the cluster declares the same count as before. The
    cluster's cause of a change is the set's only if it changes the set's template.
    """
    before, after = existing["metadata"], desired["metadata"]
    annotations = dict(before.get("annotations") or {})
    declared = after["annotations"][DECLARED_REPLICAS_ANNOTATION]
    spec = {**existing["spec"], **desired["spec"]}
    if annotations.get(DECLARED_REPLICAS_ANNOTATION) == declared:
        spec["replicas"] = existing["spec"]["replicas"]
    annotations[DECLARED_REPLICAS_ANNOTATION] = declared
    if _normal(existing)["spec"]["template"] == spec["template"]:
        # Stored before a field with a default was added: another text, the same template. Nothing need be replaced.
        spec["template"] = existing["spec"]["template"]
    else:
        annotations.pop(CHANGE_CAUSE_ANNOTATION, None)
        annotations |= after["annotations"]
    metadata = {
        **before,
        "labels": {**(before.get("labels") or {}), **after["labels"]},
        "annotations": annotations,
    }
    return _with_controller({**existing, "metadata": metadata, "spec": spec}, after["ownerReferences"][0])


def owned_by(cluster: ReadOnlyObject, agent_set: ReadOnlyObject) -> Object:
    """`agent_set` with `cluster` as its controller; owners that control nothing stay."""
    return _with_controller(agent_set, controlled_by(cluster))


def _with_controller(agent_set: ReadOnlyObject, controller: Mapping[str, Any]) -> Object:
    metadata = agent_set["metadata"]
    others = [
        reference
        for reference in metadata.get("ownerReferences") or ()
        if reference["uid"] != controller["uid"] and not reference.get("controller")
    ]
    return {**agent_set, "metadata": {**metadata, "ownerReferences": [*others, controller]}}


def _normal(agent_set: ReadOnlyObject) -> Object:
    try:
        return validate(AGENTSET, agent_set).object
    except Invalid:
        return dict(agent_set)
