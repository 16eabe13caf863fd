"""Where a record, of refusals or of privileged actions, goes. A port: the composition root chooses the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class AuditLog(Protocol):
    """An append-only record."""

    def write(self, event: Mapping[str, Any]) -> None:
        """Keeps an `audit.k8s.io/v1 Event`; it has left this process when this returns.

        Raises:
            Temporary: it could not be kept.
        """
        ...
