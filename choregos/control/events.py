"""Reports what happened as core/v1 Events, without ever holding up who reports it.

Invariants: `record` returns at once; the same thing told again while it waits is one event with a higher count; an
object has few events of one reason, however many causes it finds for it; what waits is bounded, and what is over the
bound is dropped and its number logged, because an event is a courtesy. Written in the background, a few at a time, so
that a crowd of agents failing at once does not flood the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Self

from choregos.control.event_causes import Causes
from choregos.foundation.clock import Clock
from choregos.foundation.errors import AlreadyExists, Conflict, NotFound, Temporary
from choregos.foundation.ids import IdSource
from choregos.foundation.tasks import Tasks
from choregos.resources import meta
from choregos.resources.events import NORMAL, WARNING, new_event, reference_to, repeated
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.store.resources import ResourceStore

log = logging.getLogger(__name__)

EVENTS = "events"
NEEDS_PEOPLE = frozenset(
    {"AgentsFailing", "Unschedulable", "NameTaken", "ProgressDeadlineExceeded", "LargerThanDeclared"}
)
"""Reasons of a `Ready`, or a `Progressing`, that is false and does not become true by waiting."""
WAITING_MAX = 1000
"""Distinct events that may wait to be written."""
WRITES_PER_ROUND = 20
ROUND_S = 0.2
"""Seconds from one round of writes to the next: at most 100 events a second from one process."""
ATTEMPTS_MAX = 3


class EventRecorder:
    """An async context manager: inside it events are written, leaving it drops what still waits.

    Args:
        component: the part of choregos that reports: `fleet`, `region`, `node`.
        host: the node or machine it runs on, if it matters.
    """

    def __init__(self, store: ResourceStore, clock: Clock, ids: IdSource, component: str, host: str = "") -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._component = component
        self._host = host
        self._tasks = Tasks()
        self._waiting: dict[tuple[str, str], Object] = {}  # (namespace, name) → event, oldest first
        self._wake = asyncio.Event()
        self._dropped = 0  # since the log was last told of it
        self._causes = Causes(clock)

    async def __aenter__(self) -> Self:
        self._tasks.start(self._write_rounds(), f"{self._component}-events")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    def record(self, about: ReadOnlyObject, type: str, reason: str, message: str) -> None:
        """Something happened to an object, which is given as stored.

        Args:
            type: `Normal` or `Warning`.
            reason: a stable CamelCase word.
        """
        self.record_reference(reference_to(about), reason, message, type=type)

    def record_verdict(self, about: ReadOnlyObject, status: Mapping[str, Any]) -> None:
        """Tells if `Ready` is true now, or if it or `Progressing` is false for a reason that needs people, and that was
        not so in the status before."""
        for name in ("Ready", "Progressing"):
            before, after = meta.condition(about, name) or {}, meta.condition({"status": status}, name) or {}
            if before.get("reason") == after.get("reason"):
                continue
            if name == "Ready" and after.get("status") == meta.TRUE:
                self.record(about, NORMAL, "Ready", after["message"])
            elif after.get("reason") in NEEDS_PEOPLE:
                self.record(about, WARNING, after["reason"], after["message"])

    def record_reference(self, involved: Mapping[str, Any], reason: str, message: str, *, type: str = NORMAL) -> None:
        """As `record`, about what `resources.events.reference` made."""
        now_ms = self._clock.wall_ms()
        message = self._causes.admit((type, reason, *involved.items()), message)
        event = new_event(
            involved, reason, message, now_ms=now_ms, component=self._component, type=type, host=self._host
        )
        key = (event["metadata"]["namespace"], event["metadata"]["name"])
        waiting = self._waiting.get(key)
        if waiting is not None:
            self._waiting[key] = repeated(waiting, event)
        elif len(self._waiting) >= WAITING_MAX:
            self._dropped += 1
        else:
            self._waiting[key] = event
            self._wake.set()

    async def _write_rounds(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                for key in list(self._waiting)[:WRITES_PER_ROUND]:
                    await self._write(self._waiting.pop(key))
                await self._clock.sleep(ROUND_S)
            if self._dropped:
                log.warning("%d events are lost: they came faster than they can be written", self._dropped)
                self._dropped = 0

    async def _write(self, event: Object) -> None:
        why: Exception | None = None
        for _ in range(ATTEMPTS_MAX):
            try:
                await self._store_event(event)
                return
            except (Conflict, NotFound, AlreadyExists) as error:
                why = error  # somebody else wrote it, or it expired, between our look and our write
            except Temporary as error:
                why = error
                await self._clock.sleep(error.retry_after_s)
            except Exception as error:  # it is lost; those behind it are not
                why = error
                break
        log.warning("event %s about %s is lost: %s", event["reason"], event["involvedObject"], why)

    async def _store_event(self, event: Object) -> None:
        metadata = event["metadata"]
        try:
            previous = self._store.get(EVENTS, metadata["namespace"], metadata["name"])
        except NotFound:
            stamped = {**event, "metadata": {**metadata, "uid": self._ids.uid()}}
            await self._store.create(EVENTS, stamped)
        else:
            await self._store.update(EVENTS, repeated(previous, event))
