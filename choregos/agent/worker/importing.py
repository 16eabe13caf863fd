"""Runs an import in a thread of its own, so that a module that takes minutes to import holds up no neighbour.

A thread cannot be ended: who no longer wants to wait leaves it to itself, and may come back for its result.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from choregos.messaging.tracebacks import summary_of

Value = TypeVar("Value")

# Python takes compiled code for current when the source has the same second and size; a file that is edited and loaded
# twice in a second would run as it was. So workers leave none behind.
sys.dont_write_bytecode = True


class ThreadRun(Generic[Value]):
    """One function in one daemon thread, begun at once.

    Attributes:
        result: what it returned or raised.
    """

    def __init__(self, function: Callable[[], Value], name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Value] = self._loop.create_future()
        self._function = function
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stack(self) -> str:
        """Where it is now, outermost call first."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _run(self) -> None:
        try:
            value = self._function()
        except BaseException as error:
            # A future refuses StopIteration, and SystemExit would end the event loop.
            known = error if isinstance(error, Exception) else RuntimeError(summary_of(error))
            self._loop.call_soon_threadsafe(self.result.set_exception, known)
        else:
            self._loop.call_soon_threadsafe(self.result.set_result, value)
