"""Says why an agent has no place and what would nearly have done, for the agent's condition and its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from choregos.resources.quantity import format_binary, format_decimal
from choregos.scheduling.filters import exclusion, shortfall
from choregos.scheduling.snapshot import Amounts, Needs, Node


def explain(nodes: Sequence[Node], free: Mapping[str, Amounts], needs: Needs) -> str:
    """One sentence: every obstacle with its number of nodes, most frequent first, then the nearest fit.

    `0/3 nodes fit: 2 insufficient gpu (asked 1, most free 0 on node-a), 1 cordoned; nearest fit: node-b lacks 1 gpu`
    """
    if not nodes:
        return "no node is registered in this region"
    demand = needs.demand()
    obstacles: dict[str, int] = {}
    lacks: dict[str, dict[str, int]] = {}
    for node in nodes:
        if why := exclusion(node, needs):
            obstacles[why] = obstacles.get(why, 0) + 1
        else:
            lacks[node.name] = shortfall(free[node.name], demand)
    for name in sorted({name for lack in lacks.values() for name in lack}):
        short = [node for node, lack in lacks.items() if name in lack]
        roomiest = max(short, key=lambda node: (free[node].get(name, 0), node))
        text = (
            f"insufficient {name} (asked {quantity(name, demand[name])}, "
            f"most free {quantity(name, max(0, free[roomiest].get(name, 0)))} on {roomiest})"
        )
        obstacles[text] = len(short)
    counted = ", ".join(
        f"{count} {why}" for why, count in sorted(obstacles.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"0/{len(nodes)} nodes fit: {counted}; nearest fit: {_nearest(nodes, lacks, free, needs)}"


def _nearest(
    nodes: Sequence[Node], lacks: Mapping[str, Mapping[str, int]], free: Mapping[str, Amounts], needs: Needs
) -> str:
    demand = needs.demand()

    def distance(lack: Mapping[str, int]) -> float:
        return sum(amount / demand[name] for name, amount in lack.items())

    if lacks:
        name, lack = min(lacks.items(), key=lambda item: (distance(item[1]), item[0]))
        return f"{name} lacks {_amounts(lack)}"
    # Every node is excluded by something other than room: the one with the most room first.
    node = min(nodes, key=lambda node: (distance(shortfall(free[node.name], demand)), not node.ready, node.name))
    return f"{node.name} is {exclusion(node, needs)}"


def _amounts(amounts: Mapping[str, int]) -> str:
    return " and ".join(f"{quantity(name, amount)} {name}" for name, amount in sorted(amounts.items()))


def quantity(name: str, amount: int) -> str:
    """An amount in the form people write it: `250m`, `2`, `512Mi`."""
    return format_binary(amount) if name == "memory" else format_decimal(amount)
