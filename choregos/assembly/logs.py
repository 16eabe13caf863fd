"""Opens the record logs: which streams there are, and who makes them.

The control plane owns the streams (`provision`); a node only reads and writes them, and its permissions allow no more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from choregos.foundation.bus import Bus
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


@asynccontextmanager
async def open_logs(
    bus: Bus, region: str, *, provision: bool, before_write: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Logs]:
    """The logs of the fleet and of one region, over one connection.

    Args:
        before_write: may refuse a write, see `JetStreamLog`.

    Raises:
        Permanent: with `provision`, a stream of other subjects is in the way.
        Temporary: JetStream cannot be reached.
    """
    wanted = (
        (RESOURCES_STREAM, RESOURCES_SUBJECTS),
        (EVENTS_STREAM, EVENTS_SUBJECTS),
        (agents_stream(region), agents_subjects(region)),
    )
    async with AsyncExitStack() as stack:
        logs = [
            await stack.enter_async_context(JetStreamLog(bus, stream, before_write=before_write))
            for stream, _ in wanted
        ]
        if provision:
            for log, (_, subjects) in zip(logs, wanted, strict=True):
                await log.provision(subjects)
        yield Logs(*logs)
