"""What a set's status says, from its counts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from choregos.resources import meta
from choregos.resources.kind import ReadOnlyObject
from choregos.resources.templates import set_selector
from choregos.scheduling.rollout import Counts


@dataclass(frozen=True, slots=True)
class SetFigures:
    """A set at one moment.

    Attributes:
        counts: agents that are not leaving.
        leaving: agents whose deletion has begun.
        homeless: agents without a node.
        why_homeless, why_failing: one example each, empty if there is none.
    """

    digest: str
    counts: Counts
    leaving: int = 0
    homeless: int = 0
    why_homeless: str = ""
    why_failing: str = ""


def set_status(agent_set: ReadOnlyObject, figures: SetFigures, now_ms: int) -> dict[str, Any]:
    """The status of `agent_set`; equal to the one it has if nothing is new."""
    desired = agent_set["spec"]["replicas"]
    counts = figures.counts
    ready = counts.new_ready + counts.old_ready
    at: Mapping[str, Any] = {"now_ms": now_ms, "generation": meta.generation(agent_set)}
    conditions = (agent_set.get("status") or {}).get("conditions") or ()
    for name, (status, reason, message) in (
        ("Ready", _ready(desired, ready, figures)),
        ("Progressing", _progressing(desired, figures)),
        ("RegionReady", (True, "Leading", f"region {agent_set['spec']['region']} looks after this set")),
    ):
        conditions = meta.set_condition(conditions, name, status, reason, message, **at)
    return {
        "replicas": counts.total,
        "readyReplicas": ready,
        "updatedReplicas": counts.new_ready + counts.new_unready,
        "availableReplicas": counts.new_ready,
        "pendingReplicas": figures.homeless,
        "selector": set_selector(agent_set["metadata"]["name"]),
        "observedGeneration": meta.generation(agent_set),
        "templateDigest": figures.digest,
        "conditions": list(conditions),
    }


Verdict = tuple[bool, str, str]
"""(status, reason, message) of a condition."""


def _ready(desired: int, ready: int, figures: SetFigures) -> Verdict:
    message = f"{ready} of {desired} agents take calls"
    if ready >= desired and figures.counts.new_ready == figures.counts.total == desired:
        return True, "AllAgentsReady", message
    if figures.why_homeless:
        return False, "Unschedulable", f"{message}; {figures.homeless} have no node: {figures.why_homeless}"
    if figures.why_failing:
        return False, "AgentsFailing", f"{message}; {figures.why_failing}"
    return False, "AgentsNotReady", message


def _progressing(desired: int, figures: SetFigures) -> Verdict:
    counts = figures.counts
    old = counts.old_ready + counts.old_unready
    new = counts.new_ready + counts.new_unready
    if old:
        return True, "Replacing", f"{_agents(old)} left of an earlier template"
    if new < desired:
        return True, "Creating", f"{_agents(desired - new)} to be made"
    if new > desired or figures.leaving:
        return True, "Removing", f"{_agents(max(new - desired, 0) + figures.leaving)} leaving"
    if counts.new_unready > figures.homeless:
        return True, "Starting", f"{_agents(counts.new_unready - figures.homeless)} starting"
    if figures.homeless:
        return False, "Waiting", f"{_agents(figures.homeless)} waiting for a node"
    return False, "Complete", f"{_agents(desired)} as declared"


def _agents(count: int) -> str:
    return "1 agent is" if count == 1 else f"{count} agents are"
