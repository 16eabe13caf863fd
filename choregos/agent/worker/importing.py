"""Runs an import in a thread of its own, so that a module that takes minutes to import holds up no neighbour.

A thread cannot be ended: one that is given up goes on alone, as a daemon, and its result is dropped.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


class GivenUp(Exception):
    """The function did not return in time; `stack` is where it was."""

    def __init__(self, message: str, stack: str) -> None:
        super().__init__(message)
        self.stack = stack


async def run_in_thread(function: Callable[[], Value], timeout_s: float, name: str) -> Value:
    """What `function` returns or raises.

    Raises:
        GivenUp: after `timeout_s` seconds.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Value] = loop.create_future()

    def run() -> None:
        try:
            value = function()
        except BaseException as error:
            loop.call_soon_threadsafe(_fail, future, error)
        else:
            loop.call_soon_threadsafe(_settle, future, value)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        async with asyncio.timeout(timeout_s):
            return await future
    except TimeoutError as error:
        if future.done() and not future.cancelled():
            raise
        frame = sys._current_frames().get(thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        raise GivenUp(f"{name} took longer than {timeout_s:g} s", stack) from error


def _settle(future: asyncio.Future[Value], value: Value) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Value], error: BaseException) -> None:
    if not future.done():
        # A future refuses StopIteration, and SystemExit would end the event loop.
        future.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))
