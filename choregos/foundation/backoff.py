"""Exponential back-off, as data: how long to wait before attempt n. Pure; the die is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double up to a ceiling.

    Attributes:
        initial_s: the delay after the first failure.
        max_s: no delay is longer.
        factor: growth from one failure to the next.
        jitter: share of the delay that is random, 0 to 1, so that a crowd does not come back in step
            (Brooker, "Exponential Backoff and Jitter", AWS 2015).
        reset_after_s: after running this long without a failure the count starts again from zero.
    """

    initial_s: float = 1.0
    max_s: float = 300.0
    factor: float = 2.0
    jitter: float = 0.2
    reset_after_s: float = 600.0

    def delay_s(self, failures: int, roll: float = 1.0) -> float:
        """Seconds to wait after `failures` failures in a row (0 gives 0); `roll` is uniform in [0, 1)."""
        if failures <= 0:
            return 0.0
        # The exponent is capped so that a very long outage cannot overflow a float.
        full = min(self.max_s, self.initial_s * self.factor ** min(failures - 1, 63))
        return full * (1.0 - self.jitter + self.jitter * roll)


RESTART = Backoff(initial_s=1.0, max_s=300.0, reset_after_s=600.0)
"""Restarts of agents and workers; Kubernetes' CrashLoopBackOff starts at 10 s, an agent is cheaper."""

RECONNECT = Backoff(initial_s=0.05, max_s=2.0)
"""Reaching for a server that is expected back at any moment."""

RECONCILE = Backoff(initial_s=0.01, max_s=60.0)
"""A key whose reconciliation failed."""
