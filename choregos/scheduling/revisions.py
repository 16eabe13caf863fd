"""The history of an AgentSet's template as `apps/v1` ControllerRevisions, as Kubernetes keeps that of a StatefulSet.

One revision is one template, named by its content; the one that is declared has the highest number, so a template that
comes back gets a new number and not a second revision. A restart (`spec.restartedAt`) changes no template and makes no
revision: going back undoes what was declared, never a restart. Pure: `choregos.control.region.history` writes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from choregos.resources import meta
from choregos.resources.kind import Object, ReadOnlyObject, value_at
from choregos.resources.templates import digest

RESOURCE = "controllerrevisions"
API_VERSION = "apps/v1"

LIMIT_DEFAULT = 10

DIGEST_LABEL = "controller.kubernetes.io/hash"
"""On a revision: the digest of its template."""


def revision_name(agent_set: str, template_digest: str) -> str:
    return f"{agent_set}-{template_digest}"


def number_of(revision: ReadOnlyObject) -> int:
    return int(revision.get("revision") or 0)


def template_of(revision: ReadOnlyObject) -> Mapping[str, Any]:
    """The template in a revision, to be read only; an empty one if it holds none."""
    template = value_at(revision, "data.spec.template")
    return template if isinstance(template, dict) else {}


def by_number(revisions: Iterable[ReadOnlyObject]) -> list[ReadOnlyObject]:
    """The oldest first."""
    return sorted(revisions, key=lambda one: (number_of(one), one["metadata"]["name"]))


def revision_of(agent_set: ReadOnlyObject, revisions: Sequence[ReadOnlyObject]) -> Object:
    """The revision of the template that a set declares, as it shall be stored.

    Args:
        revisions: the set's own.
    """
    metadata, template = agent_set["metadata"], agent_set["spec"]["template"]
    template_digest = digest(template)
    name = revision_name(metadata["name"], template_digest)
    others = [number_of(one) for one in revisions if one["metadata"]["name"] != name]
    own = next((number_of(one) for one in revisions if one["metadata"]["name"] == name), 0)
    labels = {DIGEST_LABEL: template_digest, meta.SET_LABEL: metadata["name"]}
    if agent_set["spec"].get("cluster"):
        labels[meta.CLUSTER_LABEL] = agent_set["spec"]["cluster"]
    cause = meta.change_cause(agent_set)
    return {
        "apiVersion": API_VERSION,
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            **({"annotations": {meta.CHANGE_CAUSE_ANNOTATION: cause}} if cause else {}),
            "ownerReferences": [meta.controlled_by(agent_set)],
        },
        "data": {"spec": {"template": template}},
        "revision": max(own, 1 + max(others, default=0)),
    }


def merged(existing: ReadOnlyObject, desired: ReadOnlyObject) -> Object:
    """`existing`, whoever made it, as `desired` says; equal to `existing` when that is nothing new.

    Keeps foreign labels and annotations, and a cause of its own when the set has none now.
    """
    metadata = {**existing["metadata"], "ownerReferences": desired["metadata"]["ownerReferences"]}
    for part in ("labels", "annotations"):
        if desired["metadata"].get(part):
            metadata[part] = {**(metadata.get(part) or {}), **desired["metadata"][part]}
    return {**existing, "metadata": metadata, "data": desired["data"], "revision": desired["revision"]}


def surplus(revisions: Iterable[ReadOnlyObject], live: Collection[str], limit: int) -> list[ReadOnlyObject]:
    """The oldest revisions beyond `limit`, which counts those that nobody uses.

    Args:
        live: names of revisions in use: the declared one, and those that agents are made from.
    """
    unused = by_number(one for one in revisions if one["metadata"]["name"] not in live)
    return unused[: max(0, len(unused) - limit)]
