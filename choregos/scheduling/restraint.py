"""Why a set makes fewer agents than it lacks. Pure.

Quotas bound what sets declare (`docs/decisions/0014`), so what runs must stay near it: neither a template that is no
longer declared may get it further, nor agents that take long to drain.
"""

from __future__ import annotations

from dataclasses import dataclass

from choregos.scheduling.explanation import quantity
from choregos.scheduling.rollout import Counts
from choregos.scheduling.snapshot import AGENTS, Needs

LARGER_THAN_DECLARED, DRAINING = "LargerThanDeclared", "Draining"


@dataclass(frozen=True, slots=True)
class Restraint:
    """
    Attributes:
        reason: a stable CamelCase word.
        message: what is not done, why, and what helps; for people.
        passes: whether waiting is enough.
    """

    reason: str
    message: str
    passes: bool


def while_paused(create: int, made: Needs, declared: Needs) -> tuple[int, Restraint | None]:
    """How many of `create` agents a paused set may make, and why not all.

    Its agents are made from an earlier template than the one it declares, which may be smaller.

    Args:
        made: needs of the agents as they would be made. declared: as the set declares them.
    """
    needed, allowed = made.demand(), declared.demand()
    excess = [
        f"{quantity(name, amount)} {name} where {quantity(name, allowed.get(name, 0))} is declared"
        for name, amount in sorted(needed.items())
        if name != AGENTS and amount > allowed.get(name, 0)
    ]
    if not create or not excess:
        return create, None
    message = (
        f"{create} more may not be made while the set is paused, because its agents are made from an earlier template "
        f"and need {', '.join(excess)}; resume it, or declare what they need"
    )
    return 0, Restraint(LARGER_THAN_DECLARED, message, passes=False)


def while_draining(
    create: int, desired: int, bounds: tuple[int, int], counts: Counts, leaving: int
) -> tuple[int, Restraint | None]:
    """How many of `create` agents may be made beside those that drain, and why not all.

    All of a set, those that drain included, are at most twice as many as desired, and the surge, of which no more
    counts than is desired: enough to replace each once without waiting, by a rollout or because all were deleted.

    Args:
        bounds: as of `rollout.plan_step`.
        leaving: agents whose deletion has begun; `counts` are the others.
    """
    most = 2 * desired + min(bounds[0], desired)
    room = max(0, most - counts.total - leaving)
    if create <= room:
        return create, None
    message = (
        f"{create - room} more are made as soon as others have drained: {leaving} still do, and a set that shall have "
        f"{desired} has at most {most} at once"
    )
    return room, Restraint(DRAINING, message, passes=True)
