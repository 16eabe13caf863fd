"""The reconciling loop: hands keys to a reconciler until what is matches what is declared.

Level-triggered. An event only says "look at this key again"; the reconciler reads everything it needs, writes the
difference and says when to come again. So lost, doubled and reordered events do no harm, a periodic scan repairs
what no event told of, and a loop that is killed anywhere goes on where the records say.

A `Controller` lives as long as its leadership: it is made with reconcilers that carry the term's fence, and left when
the term ends. It does not elect, and it holds no state that matters.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

from choregos.control.queue import WorkQueue
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Conflict, Deposed, Temporary
from choregos.foundation.tasks import Tasks

log = logging.getLogger(__name__)


class Key(NamedTuple):
    """Names one object; `namespace` is empty for cluster-scoped ones."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Result:
    """How a reconciliation ended.

    Attributes:
        again_after_s: come again after so many seconds even if nothing happens; None: not needed.
    """

    again_after_s: float | None = None


DONE = Result()


class Reconciler(Protocol):
    """What a controller drives; see docs/reconcilers.md for how to write one."""

    @property
    def name(self) -> str:
        """For logs and task names."""
        ...

    def keys(self) -> Iterable[Key]:
        """Everything that should be looked at in a periodic scan."""
        ...

    async def reconcile(self, key: Key) -> Result:
        """Brings one key nearer to what is declared; the key may name something that is gone.

        Raises:
            Conflict: something changed underneath; it is tried again soon.
            Deposed: leadership is over; the controller stops.
            Temporary: tried again after its delay.
        """
        ...


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How a loop runs.

    Attributes:
        workers: keys in work at once; more than one lets a slow key not hold up the others.
        resync_s: seconds between scans of all keys.
    """

    workers: int = 1
    resync_s: float = 300.0


class Controller:
    """Runs one reconciler; an async context manager: inside it works, after leaving it nothing of it runs.

    Args:
        on_deposed: called once when a write was refused because leadership is over; the loop has stopped by then.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        clock: Clock,
        settings: LoopSettings = LoopSettings(),
        *,
        on_deposed: Callable[[], None] = lambda: None,
    ) -> None:
        self._reconciler = reconciler
        self._clock = clock
        self._settings = settings
        self._on_deposed = on_deposed
        self._tasks = Tasks()
        self._queue: WorkQueue[Key] = WorkQueue(clock, self._tasks)
        self._over = False

    async def __aenter__(self) -> Self:
        name = self._reconciler.name
        self._tasks.start(self._resync(), f"{name}-resync")
        for number in range(self._settings.workers):
            self._tasks.start(self._work(), f"{name}-{number}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await self._tasks.close()

    def wake(self, key: Key) -> None:
        """Something happened that concerns `key`. Safe to call at any time, also after the end."""
        self._queue.add(key)

    async def _resync(self) -> None:
        while True:
            try:
                for key in iter(self._reconciler.keys()):
                    self._queue.add(key)
            except Exception:  # a defect in one scan; those found before it are looked at, and the next scan comes
                log.exception("%s: the scan of all keys failed", self._reconciler.name)
            await self._clock.sleep(self._settings.resync_s)

    async def _work(self) -> None:
        while not self._over:
            await asyncio.sleep(0)  # so a queue that is never empty, and work that never waits, leave room for others
            key = await self._queue.get()
            try:
                if not self._over:
                    await self._reconcile(key)
            finally:
                self._queue.done(key)

    async def _reconcile(self, key: Key) -> None:
        name = self._reconciler.name
        try:
            result = await self._reconciler.reconcile(key)
        except Deposed as error:
            self._stop(error)
        except Conflict as error:
            delay_s = self._queue.retry(key)
            log.debug("%s %s: %s; again in %.2f s", name, key, error, delay_s)
        except Temporary as error:
            self._queue.postpone(key, error.retry_after_s)
            log.info("%s %s: %s; again in %.1f s", name, key, error, error.retry_after_s)
        except Exception:  # a defect in one reconciler must not end the others; it is reported and retried
            delay_s = self._queue.retry(key)
            log.exception("%s %s failed; again in %.2f s", name, key, delay_s)
        else:
            self._queue.forget(key)
            if result.again_after_s is not None:
                self._queue.add_after(key, result.again_after_s)

    def _stop(self, error: Deposed) -> None:
        if not self._over:
            self._over = True
            log.info("%s stops: %s", self._reconciler.name, error)
            self._on_deposed()
