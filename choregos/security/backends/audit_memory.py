"""The audit record in memory, for tests."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

EVENTS_MAX = 100_000


class AuditMemory:
    """The last `EVENTS_MAX` events, oldest first."""

    def __init__(self) -> None:
        self.events: deque[Mapping[str, Any]] = deque(maxlen=EVENTS_MAX)

    def write(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)
