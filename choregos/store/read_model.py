"""What the read models of a log have in common: they are opened, waited for, and heard.

Invariant: a listener is called after the changes it is told of have been applied. What a model holds, and who may
watch it, is its own affair.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Self, TypeVar

from choregos.foundation.clock import Clock
from choregos.store.follower import WAIT_TIMEOUT_S, Follower
from choregos.store.freshness import Freshness
from choregos.store.port import Record, RecordLog

log = logging.getLogger(__name__)

C = TypeVar("C")


class ReadModel(ABC, Generic[C]):
    """A model of a log's records, in memory. An async context manager: open means complete."""

    def __init__(self, log: RecordLog, clock: Clock) -> None:
        self._listeners: list[Callable[[Sequence[C]], None]] = []
        self._follower: Follower[C] = Follower(log, (">",), self, clock)
        self._freshness = Freshness(log)

    async def __aenter__(self) -> Self:
        await self._follower.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._freshness.close()
        await self._follower.close()

    @property
    def revision(self) -> int:
        """Everything up to this sequence is in the model."""
        return self._follower.revision

    @property
    def log_changes(self) -> int:
        """How often the log has turned out to be another one: revisions from before mean nothing any more."""
        return self._follower.log_changes

    async def wait_for(self, revision: int, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Returns once everything up to `revision` is here; raises `Temporary` after `timeout_s` seconds."""
        await self._follower.wait_for(revision, timeout_s)

    async def catch_up(self) -> None:
        """Returns once everything that anybody was told is stored before this call is here, whoever wrote it.

        Raises:
            Temporary: the log cannot be reached, or is too far ahead.
        """
        await self._follower.wait_for(await self._freshness.newest())

    def on_change(self, listener: Callable[[Sequence[C]], None]) -> Callable[[], None]:
        """Calls `listener` with every batch of changes, after it has been applied; the result ends that.

        A listener that fails is logged and keeps neither the others nor the model back.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # The follower's model

    def announce(self, changes: Sequence[C]) -> None:
        self._publish(changes)
        for listener in tuple(self._listeners):
            try:
                listener(changes)
            except Exception:
                log.exception("a listener for changes failed")

    @abstractmethod
    def _publish(self, changes: Sequence[C]) -> None:
        """Keeps changes for those who watch."""

    @abstractmethod
    def apply(self, record: Record) -> C | None: ...

    @abstractmethod
    def loaded(self, revision: int) -> None: ...

    @abstractmethod
    def held(self) -> Iterable[tuple[str, int]]: ...
