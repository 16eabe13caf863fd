"""Rolls the sets of a cluster up into its status. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from choregos.resources import meta
from choregos.resources.kind import ReadOnlyObject


def cluster_status(
    cluster: ReadOnlyObject, sets: Sequence[ReadOnlyObject], taken: Sequence[str], now_ms: int
) -> dict[str, Any]:
    """The status of `cluster`; equal to the one it has if nothing is new.

    Args:
        sets: the cluster's own, in the order of the manifest.
        taken: names of sets that should be the cluster's and belong to somebody else.
    """
    generation = meta.generation(cluster)
    summaries = [_summary(agent_set) for agent_set in sets]
    agents = sum(summary["replicas"] for summary in summaries)
    ready_agents = sum(summary["readyReplicas"] for summary in summaries)
    waiting = [agent_set for agent_set in sets if not _settled(agent_set, "Ready", meta.TRUE)]
    moving = [agent_set for agent_set in sets if not _settled(agent_set, "Progressing", meta.FALSE)]
    if taken:
        ready, reason = False, "NameTaken"
        message = f"agent sets of these names exist and are not this cluster's: {', '.join(taken)}"
    elif waiting:
        ready, reason = False, "AgentsNotReady"
        message = f"{ready_agents} of {agents} agents take calls; {_why(waiting[0])}"
    else:
        ready, reason, message = True, "AllAgentsReady", f"{ready_agents} of {agents} agents take calls"
    conditions = (cluster.get("status") or {}).get("conditions") or ()
    at = {"now_ms": now_ms, "generation": generation}
    conditions = meta.set_condition(conditions, "Ready", ready, reason, message, **at)
    if moving:
        names = ", ".join(agent_set["metadata"]["name"] for agent_set in moving[:3])
        more = f" and {len(moving) - 3} more" if len(moving) > 3 else ""
        conditions = meta.set_condition(conditions, "Progressing", True, "SetsProgressing", f"{names}{more}", **at)
    else:
        conditions = meta.set_condition(conditions, "Progressing", False, "Complete", "every set is settled", **at)
    return {
        "agents": agents,
        "readyAgents": ready_agents,
        "sets": summaries,
        "observedGeneration": generation,
        "conditions": conditions,
    }


def _summary(agent_set: ReadOnlyObject) -> dict[str, Any]:
    status = agent_set.get("status") or {}
    return {
        "name": agent_set["metadata"]["name"],
        "region": agent_set["spec"]["region"],
        "replicas": agent_set["spec"]["replicas"],
        "readyReplicas": status.get("readyReplicas", 0),
    }


def _settled(agent_set: ReadOnlyObject, type: str, status: str) -> bool:
    """Whether the region has judged the set as it is declared now, and found this."""
    if meta.is_deleting(agent_set):
        return False
    found = meta.condition(agent_set, type)
    return (
        found is not None
        and found.get("status") == status
        and found.get("observedGeneration") == meta.generation(agent_set)
    )


def _why(agent_set: ReadOnlyObject) -> str:
    name = agent_set["metadata"]["name"]
    if meta.is_deleting(agent_set):
        return f"{name} is being deleted before it is made anew"
    found = meta.condition(agent_set, "Ready")
    if found is None or found.get("observedGeneration") != meta.generation(agent_set):
        return f"region {agent_set['spec']['region']} has not answered for {name} yet"
    return f"{name}: {found.get('message', '')}"
