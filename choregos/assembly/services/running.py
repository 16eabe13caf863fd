"""What the processes of a machine have in common: logging, the event loop, descriptors, and ending when told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from logging.handlers import RotatingFileHandler
from typing import Any

import uvloop

from choregos.assembly.machine.layout import DataDirectory, MachineConfig
from choregos.assembly.services.garbage import collect_all_regularly, leave_survivors_alone
from choregos.foundation.bus.connection import BusAddress
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import NotFound
from choregos.foundation.ids import SystemIds
from choregos.foundation.tasks import FATAL, Tasks
from choregos.security.credentials import BusUser, load_or_create

log = logging.getLogger(__name__)

LOG_BYTES_MAX = 16 * 1024 * 1024
LOG_FILES = 2


def run_service(name: str, directory: DataDirectory, serve: Callable[[MachineConfig], Awaitable[None]]) -> None:
    """Runs `serve` until it returns; it is cancelled on SIGTERM and SIGINT.

    Logs go to `<data directory>/logs/<name>.log`, at most 48 MiB, which no other process may write; on a terminal
    warnings are shown too.

    Raises:
        NotFound: `choregos up` has never run in this directory.
    """
    config = directory.load_config()
    if config is None:
        raise NotFound(f"{directory.config} does not exist: run `choregos up` with this data directory first")
    _log_to(directory, name)
    raise_descriptor_limit()
    leave_survivors_alone()
    uvloop.run(until_signal(_collected(serve(config))))


def raise_descriptor_limit() -> None:
    """As many as the hard limit lets this process have, and those that it starts.

    A client's connection costs the API server one, a worker the node a handful. With the usual soft limit of 1,024 one
    client could lock all others out, and a node would end at some 250 workers.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # some systems call infinity hard and refuse it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _collected(work: Awaitable[None]) -> None:
    async with Tasks() as tasks:
        tasks.start(collect_all_regularly(SystemClock()), "collect garbage")
        await work


async def until_signal(work: Awaitable[None]) -> None:
    """Runs `work` to its end, or cancels it on SIGINT, SIGTERM or SIGHUP and returns when it has cleaned up.

    A second signal cancels the cleaning up as well: what is left then dies with this process.

    Raises:
        RuntimeError: a background task without which the service cannot go on has failed (`foundation.tasks`).
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    failures: list[tuple[str, BaseException]] = []

    def on_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        if FATAL in context:
            failures.append((context[FATAL], context["exception"]))
            task.cancel()

    loop.set_exception_handler(on_exception)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        await work
    except asyncio.CancelledError:
        if failures:
            name, error = failures[0]
            raise RuntimeError(f"{name} failed: {error!r}") from error
        log.info("told to end")


def bus_address(directory: DataDirectory, config: MachineConfig, user: BusUser) -> BusAddress:
    """Where the bus is, as `user`."""
    credentials = load_or_create(directory.credentials, SystemIds())
    return BusAddress(config.bus_servers, user.value, credentials.password(user))


def _log_to(directory: DataDirectory, name: str) -> None:
    layout = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    file = RotatingFileHandler(directory.log(name), maxBytes=LOG_BYTES_MAX, backupCount=LOG_FILES)
    file.setFormatter(layout)
    handlers: list[logging.Handler] = [file]
    if sys.stderr.isatty():  # else it is a file that nobody rotates
        screen = logging.StreamHandler(sys.stderr)
        screen.setFormatter(layout)
        screen.setLevel(logging.WARNING)
        handlers.append(screen)
    logging.basicConfig(level=logging.INFO, handlers=handlers)
    # One line per HTTP request or frame is nothing a person could read.
    for noisy in ("httpcore", "uvicorn", "nats"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
