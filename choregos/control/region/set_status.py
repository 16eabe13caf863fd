"""What a set's status says, from its counts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from choregos.foundation.timestamp import parse_rfc3339, rfc3339_micro
from choregos.resources import meta
from choregos.resources.kind import ReadOnlyObject
from choregos.resources.quantity import VALUE_MAX
from choregos.resources.templates import set_selector
from choregos.scheduling.explanation import quantity
from choregos.scheduling.restraint import Restraint
from choregos.scheduling.rollout import Counts

FAILURES_TOLD_MAX = 3
"""Reasons that the message of a condition names."""
GIST_LENGTH_MAX = 300

PROGRESS_DEADLINE_S_DEFAULT = 600


@dataclass(frozen=True, slots=True)
class Failure:
    """What some agents of a set suffer alike.

    Attributes:
        agent: one of them; `node` has it, and said `message`, which may be a traceback.
    """

    reason: str
    count: int
    agent: str
    node: str
    message: str


@dataclass(frozen=True, slots=True)
class SetFigures:
    """A set at one moment.

    Attributes:
        digest: of what is declared now.
        counts: agents that are not leaving.
        allocated: what all agents take or wait for, those leaving included, in thousandths.
        leaving: agents whose deletion has begun.
        homeless: agents without a node.
        why_homeless: one example, empty if there is none.
        failures: what most agents suffer first.
        restraint: why agents that are missing are not made; None if they are, or none is missing.
    """

    digest: str
    counts: Counts
    allocated: Mapping[str, int] = field(default_factory=dict)
    leaving: int = 0
    homeless: int = 0
    why_homeless: str = ""
    failures: Sequence[Failure] = ()
    restraint: Restraint | None = None

    @property
    def failing(self) -> int:
        return sum(failure.count for failure in self.failures)


def set_status(agent_set: ReadOnlyObject, figures: SetFigures, now_ms: int) -> dict[str, Any]:
    """The status of `agent_set`; equal to the one it has if nothing is new."""
    desired = agent_set["spec"]["replicas"]
    counts = figures.counts
    ready = counts.new_ready + counts.old_ready
    deleting = meta.is_deleting(agent_set)
    at: Mapping[str, Any] = {"now_ms": now_ms, "generation": meta.generation(agent_set)}
    conditions = (agent_set.get("status") or {}).get("conditions") or ()
    paused = bool(agent_set["spec"].get("paused")) and not deleting
    progress = {} if deleting else _progress(agent_set, figures, now_ms)
    for name, (status, reason, message) in (
        ("Ready", _ready_of_deleted(ready, figures) if deleting else _ready(desired, ready, figures, paused=paused)),
        (
            "Progressing",
            _in_time(_progressing(0 if deleting else desired, figures, paused=paused), agent_set, progress, now_ms),
        ),
        ("RegionReady", (True, "Leading", f"region {agent_set['spec']['region']} looks after this set")),
    ):
        conditions = meta.set_condition(conditions, name, status, reason, message, **at)
    return {
        "replicas": counts.total,
        "readyReplicas": ready,
        "updatedReplicas": counts.new_ready + counts.new_unready,
        "availableReplicas": counts.new_ready,
        "pendingReplicas": figures.homeless,
        "allocated": {
            name: quantity(name, min(amount, VALUE_MAX * 1000)) for name, amount in sorted(figures.allocated.items())
        },
        "selector": set_selector(agent_set["metadata"]["name"]),
        "observedGeneration": meta.generation(agent_set),
        "templateDigest": figures.digest,
        **progress,
        "conditions": list(conditions),
    }


def progress_deadline_ms(agent_set: ReadOnlyObject, status: Mapping[str, Any]) -> int | None:
    """When the rollout under way has failed unless it gets further, wall clock; None if none is, or it may wait.

    Args:
        status: of the set, as `set_status` made it.
    """
    since = status.get("lastProgressTime")
    if not since or agent_set["spec"].get("paused"):
        return None
    deadline_s = agent_set["spec"].get("progressDeadlineSeconds", PROGRESS_DEADLINE_S_DEFAULT)
    return parse_rfc3339(since) + int(deadline_s) * 1000


def _progress(agent_set: ReadOnlyObject, figures: SetFigures, now_ms: int) -> dict[str, str]:
    """When the rollout under way last got further, for the status; nothing if all agents have had this template once.

    As of a Deployment, what counts is a template that is new, more agents of it, more of them ready, fewer others. What
    is asked of the rollout starts the time anew.
    """
    before: Mapping[str, Any] = agent_set.get("status") or {}
    counts = figures.counts
    new, old = counts.new_ready + counts.new_unready, counts.old_ready + counts.old_unready
    if not old and counts.new_ready == new == agent_set["spec"]["replicas"]:
        return {}
    now = {"lastProgressTime": rfc3339_micro(now_ms)}
    if before.get("templateDigest") != figures.digest:
        return now
    since = before.get("lastProgressTime")
    if not since:
        return {}
    new_before = before.get("updatedReplicas", 0)
    further = (
        new > new_before
        or counts.new_ready > before.get("availableReplicas", 0)
        or old < before.get("replicas", 0) - new_before
        or before.get("observedGeneration") != meta.generation(agent_set)
    )
    return now if further else {"lastProgressTime": since}


def _in_time(verdict: Verdict, agent_set: ReadOnlyObject, progress: Mapping[str, str], now_ms: int) -> Verdict:
    """The verdict, unless the rollout has got no further for too long."""
    deadline_ms = progress_deadline_ms(agent_set, progress)
    if deadline_ms is None or now_ms < deadline_ms:
        return verdict
    deadline_s = agent_set["spec"].get("progressDeadlineSeconds", PROGRESS_DEADLINE_S_DEFAULT)
    return False, "ProgressDeadlineExceeded", f"no progress for {deadline_s} s; {verdict[2]}"


Verdict = tuple[bool, str, str]
"""(status, reason, message) of a condition."""


def _ready(desired: int, ready: int, figures: SetFigures, *, paused: bool) -> Verdict:
    message = f"{ready} of {desired} agents take calls"
    if ready >= desired and figures.counts.new_ready == figures.counts.total == desired:
        return True, "AllAgentsReady", message
    parts = [message]
    if figures.homeless:
        parts.append(f"{figures.homeless} have no node: {figures.why_homeless}")
    parts += [_told(failure) for failure in figures.failures[:FAILURES_TOLD_MAX]]
    if figures.homeless > figures.failing:
        reason = "Unschedulable"
    else:
        reason = "AgentsFailing" if figures.failures else "AgentsNotReady"
    if paused and reason == "AgentsNotReady" and ready >= desired:
        return False, "Paused", f"{message}, not all of them made from the template as it is now"
    return False, reason, "; ".join(parts)


def _ready_of_deleted(ready: int, figures: SetFigures) -> Verdict:
    return False, "Deleting", f"{_agents(figures.counts.total + figures.leaving)} left, {ready} take calls"


def _told(failure: Failure) -> str:
    fail = "1 agent fails" if failure.count == 1 else f"{failure.count} agents fail"
    return f"{fail} with {failure.reason}, as {failure.agent} on {failure.node}: {gist(failure.message)}"


def gist(message: str) -> str:
    """The one line of a status message that says what is wrong: of a traceback its exception, else the first."""
    lines = message.strip().splitlines() or [""]
    frames = [number for number, line in enumerate(lines) if line.lstrip().startswith('File "')]
    if frames and any(line.startswith("Traceback") for line in lines):
        after = lines[frames[-1] + 1 :]
        lines = [line for line in after if not line.startswith(" ")] or lines[-1:]
    return lines[0] if len(lines[0]) <= GIST_LENGTH_MAX else f"{lines[0][:GIST_LENGTH_MAX]}…"


def _progressing(desired: int, figures: SetFigures, *, paused: bool) -> Verdict:
    if figures.restraint is not None:
        return figures.restraint.passes, figures.restraint.reason, figures.restraint.message
    counts = figures.counts
    old = counts.old_ready + counts.old_unready
    new = counts.new_ready + counts.new_unready
    if old:
        left = f"{_agents(old)} left of an earlier template"
        return (False, "Paused", f"{left} until the rollout is resumed") if paused else (True, "Replacing", left)
    if new < desired:
        return True, "Creating", f"{_agents(desired - new)} to be made"
    if new > desired or figures.leaving:
        return True, "Removing", f"{_agents(max(new - desired, 0) + figures.leaving)} leaving"
    starting = counts.new_unready - figures.homeless - figures.failing
    if starting > 0:
        return True, "Starting", f"{_agents(starting)} starting"
    if figures.homeless:
        return False, "Waiting", f"{_agents(figures.homeless)} waiting for a node"
    if figures.failing:
        return False, "Failing", f"{_agents(figures.failing)} failing, and tried again after a delay"
    return False, "Complete", f"{_agents(desired)} as declared"


def _agents(count: int) -> str:
    return "1 agent is" if count == 1 else f"{count} agents are"
