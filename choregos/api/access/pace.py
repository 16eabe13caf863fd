"""How fast refusals are given: who is refused again and again waits for it, so that a loop of them costs little.

A refusal comes before any seat (`sharing.fairness`) is taken, and a client in a loop would ask for the next at once. So
each flow, and each address of those who are not known, has a budget that fills up steadily (the generic cell rate
algorithm, ITU-T I.371). Within it a refusal is given at once; beyond it, it is given later; and when too many wait
already the answer is 429. Invariant: whoever is allowed something is never kept waiting here. It does not judge.
"""

from __future__ import annotations

from dataclasses import dataclass

from choregos.api.rules.status import too_many_requests
from choregos.foundation.clock import Clock

KNOWN_MAX = 10_000
"""Budgets that are remembered; beyond that the ones used longest ago are full again."""


@dataclass(frozen=True, slots=True)
class RefusalLimits:
    """
    Attributes:
        per_s: refusals that one who is refused is given in a second, in the long run.
        burst: how many more at once.
        wait_s: longest time for which one is held back; what would have to wait longer is a 429.
    """

    per_s: float = 50.0
    burst: int = 200
    wait_s: float = 2.0


class RefusalPace:
    """The budgets of one server."""

    def __init__(self, limits: RefusalLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._full_at: dict[str, float] = {}  # when the budget is full again; the one used last at the end

    async def turn(self, who: str) -> None:
        """Returns when `who` may be refused once more.

        Raises:
            Refusal: 429, too many of them wait already.
        """
        limits = self._limits
        now = self._clock.monotonic()
        full_at = max(self._full_at.pop(who, now), now) + 1 / limits.per_s
        delay_s = full_at - now - limits.burst / limits.per_s
        if delay_s > limits.wait_s:
            self._full_at[who] = full_at - 1 / limits.per_s
            raise too_many_requests(f"{who or 'this client'} is refused too often")
        self._full_at[who] = full_at
        if len(self._full_at) > KNOWN_MAX:
            del self._full_at[next(iter(self._full_at))]
        if delay_s > 0:
            await self._clock.sleep(delay_s)
