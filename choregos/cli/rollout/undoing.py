"""Going back to an earlier template: which one, and the object that declares it again. Pure.

A set that belongs to a cluster is made from the cluster's manifest, so it is the manifest that is changed. Invariant:
what is returned differs from what was given in the template, its part of the manifest, and the change cause alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from choregos.foundation.errors import NotFound, Permanent
from choregos.resources import meta
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.scheduling.revisions import by_number, number_of, template_of

_GIVEN_LABELS = frozenset({meta.CLUSTER_LABEL, meta.TEMPLATE_LABEL})
"""What the fleet adds to the labels of a manifest's template."""

Template = Mapping[str, Any]


def chosen(agent_set: ReadOnlyObject, revisions: Sequence[ReadOnlyObject], number: int) -> ReadOnlyObject:
    """The revision to go back to.

    Args:
        number: 0: the newest that is not what the set declares now.

    Raises:
        NotFound: there is none.
    """
    name = agent_set["metadata"]["name"]
    ordered = by_number(revisions)
    if number:
        found = [one for one in ordered if number_of(one) == number]
        kept = ", ".join(str(number_of(one)) for one in ordered) or "none"
        missing = f'agentset "{name}" has no revision {number}; kept are {kept}'
    else:
        found = [one for one in ordered if template_of(one) != agent_set["spec"]["template"]]
        missing = f'agentset "{name}" has no earlier revision'
    if not found or not template_of(found[-1]):
        raise NotFound(missing)
    return found[-1]


def undone_set(agent_set: ReadOnlyObject, revision: ReadOnlyObject) -> Object:
    """The set with the revision's template."""
    return _caused({**agent_set, "spec": {**agent_set["spec"], "template": template_of(revision)}}, revision)


def undone_cluster(cluster: ReadOnlyObject, agent_set: ReadOnlyObject, revision: ReadOnlyObject) -> Object:
    """The cluster with a manifest that makes the revision's template for the set.

    Args:
        agent_set: as the cluster makes it now.

    Raises:
        Permanent: this manifest cannot say it.
    """
    current, target = _declared(agent_set["spec"]["template"]), _declared(template_of(revision))
    spec = dict(cluster["spec"])
    if spec.get("agents") is not None:
        places = [index for index, entry in enumerate(spec["agents"]) if entry["name"] == current["name"]]
        if not places:
            raise _impossible(cluster, agent_set, "it has no template of that name any more")
        entries = list(spec["agents"])
        entries[places[0]] = _undone_entry(entries[places[0]], current, target)
        spec["agents"] = entries
    else:
        other = sorted(key for key in {*current, *target} - {"resources"} if current.get(key) != target.get(key))
        if other:
            raise _impossible(cluster, agent_set, f"resource_management has no {', '.join(other)}")
        needs = spec.get("resource_management") or {}
        spec["resource_management"] = {**needs, current["name"]: target.get("resources", {})}
    return _caused({**cluster, "spec": spec}, revision)


def _undone_entry(entry: Template, current: Template, target: Template) -> dict[str, Any]:
    """An entry of a manifest that makes `target`; what does not change stays as it is written there, or left out."""
    changed = {key for key in {*current, *target} if current.get(key) != target.get(key)}
    kept = {key: value for key, value in entry.items() if key not in changed}
    return kept | {key: value for key, value in target.items() if key in changed}


def _declared(template: Template) -> Template:
    """A set's template as a manifest says it."""
    labels = {key: value for key, value in (template.get("labels") or {}).items() if key not in _GIVEN_LABELS}
    rest = {key: value for key, value in template.items() if key != "labels"}
    return {**rest, "labels": labels} if labels else rest


def _caused(obj: Object, revision: ReadOnlyObject) -> Object:
    annotations = dict(obj["metadata"].get("annotations") or {})
    annotations.pop(meta.CHANGE_CAUSE_ANNOTATION, None)
    if cause := meta.change_cause(revision):
        annotations[meta.CHANGE_CAUSE_ANNOTATION] = cause
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def _impossible(cluster: ReadOnlyObject, agent_set: ReadOnlyObject, why: str) -> Permanent:
    names = f'agentset "{agent_set["metadata"]["name"]}" is made from agentcluster "{cluster["metadata"]["name"]}"'
    return Permanent(f"{names}, whose manifest cannot say that revision: {why}")
