"""Brings what the host says of its agents into the region's log: in batches, each agent's last word only.

Invariants: of what waits for one agent only the newest is kept, so what waits is bounded by the agents of the node;
nothing is given up while the log cannot be reached; a word about a binding that is over is dropped, because it would
replace the new owner's; a status that the log does not take holds up no other, and is replaced by one that it does.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Self

from msgspec.structs import replace

from choregos.agent.contract import HostStatus
from choregos.foundation.backoff import RECONNECT
from choregos.foundation.clock import Clock
from choregos.foundation.errors import Temporary
from choregos.foundation.tasks import Tasks
from choregos.store.directory import Directory
from choregos.store.instances import InstanceWriter
from choregos.store.port import BATCH_WRITES_MAX
from choregos.wire.instances import VERSION, StatusRecord

log = logging.getLogger(__name__)

Agent = tuple[str, str]
"""(namespace, name)."""

MESSAGE_BYTES_MAX = 4096
"""Of a message more than this helps nobody, and every directory holds it: a traceback's beginning and end are kept."""
CAPABILITIES_CHARACTERS_MAX = 8192
"""Of capabilities that a class declares; those beyond are left out."""
ELISION = b"\n ... \n"


class StatusReporter:
    """An async context manager: inside it statuses are written; leaving it drops what still waits."""

    def __init__(self, node: str, directory: Directory, writer: InstanceWriter, clock: Clock) -> None:
        self._node = node
        self._directory = directory
        self._writer = writer
        self._clock = clock
        self._tasks = Tasks()
        self._waiting: dict[Agent, HostStatus] = {}
        self._wake = asyncio.Event()
        self._listeners: list[Callable[[Sequence[HostStatus]], None]] = []

    async def __aenter__(self) -> Self:
        self._tasks.start(self._write_batches(), "statuses")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    def subscribe(self, listener: Callable[[Sequence[HostStatus]], None]) -> None:
        """Calls `listener` with every report, before it is written."""
        self._listeners.append(listener)

    def report(self, statuses: Sequence[HostStatus]) -> None:
        """Returns at once; what is reported later for an agent replaces this."""
        for status in statuses:
            self._waiting[status.namespace, status.name] = status
        self._wake.set()
        for listener in self._listeners:
            listener(statuses)

    async def _write_batches(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                left = await self._write(self._take())
                if not left:
                    failures = 0
                    continue
                failures += 1
                for status in left:
                    self._waiting.setdefault((status.namespace, status.name), status)
                await self._clock.sleep(RECONNECT.delay_s(failures, random.random()))

    async def _write(self, batch: Sequence[HostStatus]) -> Sequence[HostStatus]:
        """Returns those that have to be written again."""
        try:
            await self._put(batch)
        except Temporary as error:
            log.warning("%d statuses wait, the log cannot be reached: %s", len(self._waiting) + len(batch), error)
            return batch
        except Exception:  # one of them is at fault, or a defect is: whatever it is, the others are told
            log.exception("%d statuses cannot be written together; each is written alone", len(batch))
            return [status for status in batch if not await self._write_alone(status)]
        return ()

    async def _write_alone(self, status: HostStatus) -> bool:
        """Whether it was written, if need be without what makes it large or odd."""
        for attempt in (status, _shortened(status)):
            try:
                await self._put([attempt])
            except Temporary:
                return False
            except Exception as error:  # as in `_write`
                log.error("the status of %s/%s cannot be written: %s", status.namespace, status.name, error)
            else:
                return True
        return False

    async def _put(self, batch: Iterable[HostStatus]) -> None:
        await self._writer.put_statuses(list(self._current(batch)))

    def _take(self) -> list[HostStatus]:
        keys = list(self._waiting)[:BATCH_WRITES_MAX]
        return [self._waiting.pop(key) for key in keys]

    def _current(self, batch: Iterable[HostStatus]) -> Iterable[tuple[str, str, StatusRecord]]:
        for status in batch:
            instance = self._directory.find(status.namespace, status.name)
            if instance is None:
                continue
            record = instance.record
            if (record.node, record.uid, record.binding) != (self._node, status.uid, status.binding):
                continue
            yield status.namespace, status.name, status_record(status)


def status_record(status: HostStatus) -> StatusRecord:
    return StatusRecord(
        VERSION,
        status.uid,
        status.binding,
        status.phase,
        status.ready,
        status.host,
        status.restarts,
        status.since_ms,
        status.reason,
        _capped(status.message),
        _some(status.capabilities),
    )


def _shortened(status: HostStatus) -> HostStatus:
    """Without what an agent's code can have a say in."""
    message = "what its node says of it cannot be stored; the node's log says why"
    return replace(status, message=message, capabilities=())


def _capped(message: str) -> str:
    """What every log takes: at most `MESSAGE_BYTES_MAX` bytes of valid UTF-8."""
    if len(message) <= MESSAGE_BYTES_MAX and message.isascii():
        return message
    encoded = message.encode(errors="backslashreplace")
    if len(encoded) > MESSAGE_BYTES_MAX:
        kept = (MESSAGE_BYTES_MAX - len(ELISION)) // 2
        encoded = encoded[:kept] + ELISION + encoded[-kept:]
    return encoded.decode(errors="ignore")


def _some(capabilities: tuple[str, ...]) -> tuple[str, ...]:
    sizes = accumulate(len(capability) for capability in capabilities)
    return tuple(
        capability for capability, size in zip(capabilities, sizes, strict=True) if size <= CAPABILITIES_CHARACTERS_MAX
    )
