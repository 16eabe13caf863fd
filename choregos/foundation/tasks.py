"""Named background tasks with an owner: the only place that calls `asyncio.create_task`.

A `TaskGroup` waits for its children; services need children that live until the service stops, whose unexpected
end is noticed. `Tasks` is that: every task has a name, and `close` cancels and waits for all of them.

A task that raises is a defect, and a service without one of its loops only seems to live. So unless the owner says
otherwise the event loop's exception handler is told, under the key `FATAL`; the composition root has one that ends
the process, which its supervisor starts again. Owners of tasks that serve one request each say `on_failure=logged`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Self

log = logging.getLogger(__name__)

FATAL = "choregos_task"
"""Key of the exception handler's context that holds the name of a task without which its service cannot go on."""


def logged(name: str, error: BaseException) -> None:
    """For `on_failure`: a line in the log, and life goes on."""
    log.error("task %s failed", name, exc_info=error)


def _fatal(name: str, error: BaseException) -> None:
    message = f"background task {name} failed"
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error, FATAL: name})


class Tasks:
    """The background tasks of one service.

    Invariant: after `close` has returned none of them runs, and no new one can be started.

    Args:
        on_failure: told name and error of each task that raises.
    """

    def __init__(self, on_failure: Callable[[str, BaseException], None] = _fatal) -> None:
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
        if error is not None:
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
