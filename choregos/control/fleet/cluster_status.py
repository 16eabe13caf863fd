"""Rolls the sets of a cluster up into its status. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from choregos.resources import meta
from choregos.resources.kind import ReadOnlyObject

SETS_TOLD_MAX = 3
"""Sets that the message of a condition names."""

_TROUBLES = frozenset({"AgentsFailing", "Unschedulable"})
"""Reasons of a set that are its cluster's too."""


def cluster_status(
    cluster: ReadOnlyObject, sets: Sequence[ReadOnlyObject], taken: Sequence[str], now_ms: int
) -> dict[str, Any]:
    """The status of `cluster`; equal to the one it has if nothing is new.

    Args:
        sets: the cluster's own, in the order of the manifest.
        taken: names of sets that should be the cluster's and belong to somebody else.
    """
    summaries = [_summary(agent_set) for agent_set in sets]
    agents = sum(summary["replicas"] for summary in summaries)
    ready_agents = sum(summary["readyReplicas"] for summary in summaries)
    at: Mapping[str, Any] = {"now_ms": now_ms, "generation": meta.generation(cluster)}
    conditions = (cluster.get("status") or {}).get("conditions") or ()
    if meta.is_deleting(cluster):
        verdicts = _deleting(sets)
    else:
        verdicts = _ready(sets, taken, f"{ready_agents} of {agents} agents take calls"), _progressing(sets)
    for name, verdict in zip(("Ready", "Progressing"), verdicts, strict=True):
        conditions = meta.set_condition(conditions, name, *verdict, **at)
    return {
        "agents": agents,
        "readyAgents": ready_agents,
        "sets": summaries,
        "observedGeneration": meta.generation(cluster),
        "conditions": list(conditions),
    }


Verdict = tuple[bool, str, str]
"""(status, reason, message) of a condition."""


def _ready(sets: Sequence[ReadOnlyObject], taken: Sequence[str], count: str) -> Verdict:
    waiting = [agent_set for agent_set in sets if not _settled(agent_set, "Ready", meta.TRUE)]
    # What needs people before what only needs time, however the manifest has them.
    waiting.sort(key=lambda agent_set: _reason(agent_set) not in _TROUBLES)
    why = _listed([_why(agent_set) for agent_set in waiting])
    if taken:
        names = f"agent sets of these names exist and are not this cluster's: {', '.join(taken)}"
        return False, "NameTaken", "; ".join([names, count, *why])
    if waiting:
        reason = _reason(waiting[0])
        return False, reason if reason in _TROUBLES else "AgentsNotReady", "; ".join([count, *why])
    return True, "AllAgentsReady", count


def _progressing(sets: Sequence[ReadOnlyObject]) -> Verdict:
    moving = [agent_set for agent_set in sets if not _settled(agent_set, "Progressing", meta.FALSE)]
    if moving:
        return True, "SetsProgressing", ", ".join(_listed(_names(moving)))
    stuck = [agent_set for agent_set in sets if _reason(agent_set, "Progressing") != "Complete"]
    if stuck:
        stuck.sort(key=lambda agent_set: _reason(agent_set, "Progressing") != "ProgressDeadlineExceeded")
        return (
            False,
            _reason(stuck[0], "Progressing"),
            f"nothing is under way; Ready says why of {', '.join(_listed(_names(stuck)))}",
        )
    return False, "Complete", "every set is settled"


def _deleting(sets: Sequence[ReadOnlyObject]) -> tuple[Verdict, Verdict]:
    message = "; ".join(["waits for its sets to go", *_listed([_why(agent_set) for agent_set in sets])])
    return (False, "Deleting", message), (True, "Deleting", message)


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


def _reason(agent_set: ReadOnlyObject, type: str = "Ready") -> str:
    """Of its condition of that type, if that speaks of the set as it is declared now."""
    found = meta.condition(agent_set, type)
    if found is None or found.get("observedGeneration") != meta.generation(agent_set):
        return ""
    return str(found.get("reason", ""))


def _why(agent_set: ReadOnlyObject) -> str:
    name = agent_set["metadata"]["name"]
    if not _reason(agent_set):
        what = f"the deletion of {name}" if meta.is_deleting(agent_set) else name
        return f"region {agent_set['spec']['region']} has not answered for {what} yet"
    found = meta.condition(agent_set, "Ready") or {}
    return f"{name}{' is being deleted' * meta.is_deleting(agent_set)}: {found.get('message', '')}"


def _names(sets: Sequence[ReadOnlyObject]) -> list[str]:
    return [agent_set["metadata"]["name"] for agent_set in sets]


def _listed(words: Sequence[str]) -> list[str]:
    more = len(words) - SETS_TOLD_MAX
    return [*words[:SETS_TOLD_MAX], f"and {more} more"] if more > 0 else list(words)
