"""Which of the possible nodes is best: the one that is used least, and that has fewest of the same set.

Both parts grow linearly with the number of agents placed, so a run of identical agents needs one score and one step
per node and no filter per agent. Lower is better; whole numbers keep plans identical on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from choregos.scheduling.filters import discouraged
from choregos.scheduling.snapshot import Amounts, Needs, Node

SCALE = 1_000_000_000
SPREAD = SCALE // 2
"""Weight of having fewer of the same set, against that of being used less."""
DISCOURAGED = 100 * SCALE
"""Added for a `PreferNoSchedule` taint: more than all other parts together, so such a node is used last."""


@dataclass(frozen=True, slots=True)
class Score:
    """Score of a node for the next agent, and by how much it rises with each agent placed there."""

    start: int
    step: int


def score(node: Node, needs: Needs, free: Amounts, demand: Mapping[str, int], spread: tuple[int, int]) -> Score:
    """Least allocated (mean over the resources asked for) plus spread.

    Args:
        spread: agents of the same set on this node, and in all once every request is placed.
    """
    used = 0
    step = 0
    for name, asked in demand.items():
        allocatable = node.allocatable[name]
        used += (allocatable - free[name] + asked) * SCALE // allocatable
        step += asked * SCALE // allocatable
    alike, alike_total = spread
    start = used // len(demand) + alike * SPREAD // alike_total
    if discouraged(node, needs):
        start += DISCOURAGED
    # At least one, so that equal nodes take turns even where an agent asks for next to nothing.
    return Score(start, max(1, step // len(demand) + SPREAD // alike_total))
