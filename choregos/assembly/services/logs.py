"""Opens the record logs: which streams there are, and who makes them.

The controllers' process owns the streams (`provision`); API server and node only read and write them, and their
permissions allow no more. Who is there first waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from choregos.foundation.bus.connection import Bus
from choregos.store.backends.jetstream import JetStreamLog
from choregos.wire.subjects import (
    EVENTS_STREAM,
    EVENTS_SUBJECTS,
    RESOURCES_STREAM,
    RESOURCES_SUBJECTS,
    agents_stream,
    agents_subjects,
)

EVENTS_TTL_S = 3600
"""Events vanish an hour after they last happened, as in Kubernetes."""


@dataclass(frozen=True, slots=True)
class Logs:
    resources: JetStreamLog
    events: JetStreamLog
    agents: JetStreamLog


def _streams(region: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Name and subjects of each."""
    return (
        (RESOURCES_STREAM, RESOURCES_SUBJECTS),
        (EVENTS_STREAM, EVENTS_SUBJECTS),
        (agents_stream(region), agents_subjects(region)),
    )


@asynccontextmanager
async def open_logs(
    bus: Bus, region: str, *, before_write: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Logs]:
    """The logs of the fleet and of one region, over one connection.

    Args:
        before_write: may refuse a write, see `JetStreamLog`.
    """
    async with AsyncExitStack() as stack:
        logs = [
            await stack.enter_async_context(JetStreamLog(bus, stream, before_write=before_write))
            for stream, _ in _streams(region)
        ]
        yield Logs(*logs)


async def provision(logs: Logs, region: str) -> None:
    """Makes the streams, or changes them to what they should be.

    Raises:
        Permanent: a stream of other subjects is in the way.
        Temporary: JetStream cannot be reached.
    """
    for log, (_, subjects) in zip((logs.resources, logs.events, logs.agents), _streams(region), strict=True):
        await log.provision(subjects)
