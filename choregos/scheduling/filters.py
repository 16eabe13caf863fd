"""Which nodes an agent may go to. Each filter answers why not, in words a person can act on."""

from __future__ import annotations

from collections.abc import Mapping

from choregos.scheduling.snapshot import NO_EXECUTE, PREFER_NO_SCHEDULE, Amounts, Needs, Node, Taint


def untolerated(node: Node, needs: Needs) -> Taint | None:
    """The first taint that keeps the agent off the node, in the node's own order."""
    for taint in node.taints:
        if taint.effect != PREFER_NO_SCHEDULE and not _tolerated(taint, needs):
            return taint
    return None


def evicted_by(node: Node, needs: Needs, now_ms: int) -> Taint | None:
    """The first `NoExecute` taint that drives an agent off the node it already runs on.

    Of several tolerations of one taint the shortest counts, as in Kubernetes.
    """
    for taint in node.taints:
        if taint.effect != NO_EXECUTE:
            continue
        seconds = [toleration.seconds for toleration in needs.tolerations if toleration.tolerates(taint)]
        limits = [limit for limit in seconds if limit is not None]
        if not seconds or (limits and taint.added_ms and now_ms >= taint.added_ms + min(limits) * 1000):
            return taint
    return None


def discouraged(node: Node, needs: Needs) -> bool:
    """Whether a `PreferNoSchedule` taint makes this node the second choice."""
    return any(taint.effect == PREFER_NO_SCHEDULE and not _tolerated(taint, needs) for taint in node.taints)


def exclusion(node: Node, needs: Needs) -> str:
    """Why the node takes no agent of these needs, however much room it has; empty if it may."""
    if not node.ready:
        return "not ready"
    if node.unschedulable:
        return "cordoned"
    if (taint := untolerated(node, needs)) is not None:
        return f"with untolerated taint {taint}"
    missing = [f"{key}={value}" for key, value in needs.node_selector.items() if node.labels.get(key) != value]
    if missing:
        return f"without label {', '.join(sorted(missing))}"
    return ""


def shortfall(free: Amounts, demand: Mapping[str, int]) -> dict[str, int]:
    """What the node lacks for one such agent, by resource; empty if it fits."""
    return {name: asked - free.get(name, 0) for name, asked in demand.items() if free.get(name, 0) < asked}


def room(free: Amounts, demand: Mapping[str, int]) -> int:
    """How many such agents fit; `demand` holds positive amounts only."""
    return max(0, min(free.get(name, 0) // asked for name, asked in demand.items()))


def _tolerated(taint: Taint, needs: Needs) -> bool:
    return any(toleration.tolerates(taint) for toleration in needs.tolerations)
