"""Named background tasks with an owner: the only place that calls `asyncio.create_task`.

A `TaskGroup` waits for its children; services need children that live until the service stops, whose unexpected
end is noticed. `Tasks` is that: every task has a name, a failure is reported once through `on_failure`, and
`close` cancels and waits for all of them.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Self

log = logging.getLogger(__name__)


class Tasks:
    """The background tasks of one service.

    Invariant: after `close` has returned none of them runs, and no new one can be started.
    """

    def __init__(self, on_failure: Callable[[str, BaseException], None] | None = None) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_failure = on_failure
        self._closed = False

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str, *, eager: bool = False) -> asyncio.Task[Any]:
        """Runs `coroutine` in the background until it ends or `close` is called.

        Args:
            eager: run it at once up to where it first waits, instead of in the next turn of the event loop, where
                Python can (3.12 and later): for very many short tasks.

        Raises:
            RuntimeError: the owner is closed already.
        """
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"cannot start {name}: its owner is closed")
        loop = asyncio.get_running_loop()
        task: asyncio.Task[Any]
        if eager and sys.version_info >= (3, 12):
            task = asyncio.Task(coroutine, loop=loop, name=name, eager_start=True)
        else:
            task = loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def __len__(self) -> int:
        return len(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        log.error("background task %s failed", task.get_name(), exc_info=error)
        if self._on_failure is not None:
            self._on_failure(task.get_name(), error)

    async def close(self) -> None:
        """Cancels every task and waits until the last one has ended."""
        self._closed = True
        while self._tasks:
            pending = list(self._tasks)
            for task in pending:
                task.cancel()
            await asyncio.wait(pending)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
