"""How many events an object has of one reason: one for each cause, and beyond a few causes one for all others.

As Kubernetes' correlator does it: what an agent raises may differ each time, and each would be an object of its own.

Invariant: what is remembered is bounded, objects by `OBJECTS_MAX` and their causes by `CAUSES_MAX`; who is forgotten
may have as many again.
"""

from __future__ import annotations

from collections import OrderedDict

from choregos.foundation.clock import Clock
from choregos.resources.events import COMBINED, cause_of

CAUSES_MAX = 10
WINDOW_S = 600.0
"""A cause that was not seen for so long makes room for another."""

OBJECTS_MAX = 4096

About = tuple[object, ...]
"""The object, and the reason of the event."""


class Causes:
    """What has been told lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: OrderedDict[About, dict[int, float]] = OrderedDict()  # cause, as a hash → when it was last seen

    def admit(self, about: About, message: str) -> str:
        """The message; with too many causes beside it, marked as one of the others."""
        now_s = self._clock.monotonic()
        seen = {cause: at for cause, at in self._seen.pop(about, {}).items() if now_s - at < WINDOW_S}
        self._seen[about] = seen
        if len(self._seen) > OBJECTS_MAX:
            self._seen.popitem(last=False)
        cause = hash(cause_of(message))
        if cause not in seen and len(seen) >= CAUSES_MAX:
            return COMBINED + message
        seen[cause] = now_s
        return message
