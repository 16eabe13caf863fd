"""Signs of life: a lease that its only holder renews, and an observer that says who has stopped doing so.

Invariant: silence is measured on the observer's own monotonic clock, from the moment it saw the last renewal; nobody is
found silent before the observer itself has listened for a whole lease. Decides nothing about the silent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Never, Self

from choregos.foundation.clock import Clock
from choregos.foundation.errors import Conflict, Temporary
from choregos.foundation.tasks import Tasks
from choregos.store.follower import Follower
from choregos.store.leases.record import decode, encode, lease_of
from choregos.store.port import Record, RecordLog, Write
from choregos.wire import subjects
from choregos.wire.instances import VERSION, LeaseRecord

log = logging.getLogger(__name__)


class Heartbeat:
    """Renews one lease for as long as the context lasts. The latest to start holds it: a restarted node need not wait.

    Args:
        holder: identity of this process, unique per start.
        period_s, duration_s: time between renewals, and the silence after which others may presume death.

    Attributes:
        superseded: another process holds the lease now; this one has stopped renewing and should stop working.
    """

    def __init__(
        self,
        log: RecordLog,
        scope: str,
        name: str,
        holder: str,
        clock: Clock,
        *,
        period_s: float = 10.0,
        duration_s: float = 40.0,
    ) -> None:
        self._log = log
        self._subject = subjects.lease_subject(scope, name)
        self._holder = holder
        self._clock = clock
        self._period_s = period_s
        self._duration_s = duration_s
        self._tasks = Tasks()
        self._renewals = 0
        self.superseded = False

    async def __aenter__(self) -> Self:
        await self._beat(takes_over=True)
        self._tasks.start(self._beat_regularly(), "heartbeat")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    async def _beat_regularly(self) -> None:
        while not self.superseded:
            await self._clock.sleep(self._period_s)
            try:
                await self._beat(takes_over=False)
            except (Temporary, Conflict) as error:
                log.warning("cannot renew %s: %s", self._subject, error)
            except Exception:
                log.exception("cannot renew %s; it will be tried again", self._subject)

    async def _beat(self, *, takes_over: bool) -> None:
        last = await self._log.last(self._subject)
        previous = lease_of(last)
        foreign = previous is not None and previous.holder != self._holder
        if foreign and not takes_over:
            log.error("%s was taken over by %s", self._subject, previous.holder if previous else "")
            self.superseded = True
            return
        self._renewals += 1
        transitions = 0 if previous is None else previous.transitions + foreign
        record = LeaseRecord(VERSION, self._holder, self._duration_s, self._renewals, transitions)
        expected = 0 if last is None else last.sequence
        await self._log.append(Write(self._subject, encode(record), expected=expected))


class LeaseObserver:
    """Which leases of a scope are being renewed. An async context manager.

    A controller opens one when it becomes leader: then nobody seems silent only because this process, or the log,
    was away for a while.

    Args:
        prefix: names of the leases to observe begin with it; the name handed out is what follows.
    """

    def __init__(self, log: RecordLog, scope: str, clock: Clock, *, prefix: str = "node-") -> None:
        self._clock = clock
        self._prefix = prefix
        self._leases: dict[str, tuple[LeaseRecord, float, int]] = {}  # name -> record, seen at, sequence
        self._scope = scope
        self._follower: Follower[Never] = Follower(log, (f"al.{subjects.token(scope)}.*.lease",), self, clock)

    async def __aenter__(self) -> Self:
        await self._follower.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._follower.close()

    def names(self) -> Sequence[str]:
        """Of all leases that exist, alive or not, sorted."""
        return sorted(self._leases)

    def alive(self, name: str) -> bool:
        """Whether it exists and was renewed within its duration."""
        return name in self._leases and self.silent_s(name) < self._leases[name][0].duration_s

    def silent_s(self, name: str) -> float:
        """Seconds since its last renewal was seen; infinite if there is no such lease."""
        if name not in self._leases:
            return float("inf")
        return self._clock.monotonic() - self._leases[name][1]

    def holder(self, name: str) -> str:
        """Who holds it; empty if there is no such lease."""
        return self._leases[name][0].holder if name in self._leases else ""

    # The follower's model

    def apply(self, record: Record) -> None:
        name = subjects.untoken(record.subject.split(".")[2])
        if not name.startswith(self._prefix):
            return
        name = name.removeprefix(self._prefix)
        if record.tombstone:
            self._leases.pop(name, None)
        else:
            self._leases[name] = decode(record.data), self._clock.monotonic(), record.sequence

    def announce(self, changes: Sequence[Never]) -> None:
        """Nobody listens: whoever wants to know asks."""

    def loaded(self, revision: int) -> None:
        """Nobody was told a revision."""

    def held(self) -> Iterable[tuple[str, int]]:
        for name, (_, _, sequence) in self._leases.items():
            yield subjects.lease_subject(self._scope, self._prefix + name), sequence
