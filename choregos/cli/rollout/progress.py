"""How far a rollout is, from what the API says of a set or a cluster: kubectl's rules, nearly in its words. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from choregos.resources import meta
from choregos.resources.kind import ReadOnlyObject


@dataclass(frozen=True, slots=True)
class Progress:
    """
    Attributes:
        message: for people; may be empty if it is done.
        failed: it will not get further by itself.
    """

    message: str
    done: bool = False
    failed: bool = False


def set_progress(agent_set: ReadOnlyObject) -> Progress:
    name, status = agent_set["metadata"]["name"], agent_set.get("status") or {}
    if not (seen := observed(agent_set)).done:
        return seen
    condition = meta.condition(agent_set, "Progressing") or {}
    if condition.get("reason") == "ProgressDeadlineExceeded":
        why = (meta.condition(agent_set, "Ready") or {}).get("message", "")
        message = f'agentset "{name}" exceeded its progress deadline: {condition.get("message", "")}; {why}'
        return Progress(message, failed=True)
    what = _left(agent_set["spec"].get("replicas", 1), status)
    if meta.is_deleting(agent_set):
        what = f"it is being deleted, {status.get('replicas', 0)} agents are left"
    if not what:
        return Progress(f'agentset "{name}" successfully rolled out', done=True)
    if agent_set["spec"].get("paused"):
        return Progress(f'Rollout of agentset "{name}" is paused: {what}...')
    return Progress(f'Waiting for agentset "{name}" rollout to finish: {what}...')


def _left(desired: int, status: ReadOnlyObject) -> str:
    """What is left to do; empty if nothing is."""
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    old = status.get("replicas", 0) - updated
    if updated < desired:
        return f"{updated} of {desired} agents updated"
    if old > 0:
        return f"{old} agent{'s' if old > 1 else ''} of an earlier template left"
    if available < updated:
        return f"{available} of {updated} updated agents are ready"
    return ""


def cluster_progress(cluster: ReadOnlyObject) -> Progress:
    """Whether the sets are as the manifest says; their agents are `set_progress`'s."""
    if not (seen := observed(cluster)).done:
        return seen
    ready = meta.condition(cluster, "Ready") or {}
    if ready.get("reason") == "NameTaken":
        return Progress(
            f'agentcluster "{cluster["metadata"]["name"]}" cannot be rolled out: {ready.get("message", "")}',
            failed=True,
        )
    return Progress("", done=True)


def observed(obj: ReadOnlyObject) -> Progress:
    """Whether its controller has acted on what it declares now."""
    if int((obj.get("status") or {}).get("observedGeneration") or 0) >= meta.generation(obj):
        return Progress("", done=True)
    what = f'{obj["kind"].lower()} "{obj["metadata"]["name"]}"'
    return Progress(f"Waiting for the update of {what} to be observed...")
