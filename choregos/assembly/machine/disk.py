"""The disk under a data directory: how much of it must stay free, and what follows when it does not.

A JetStream stream that meets a full disk refuses every write until nats-server is started again, even when there is
space again (seen with 2.15.1). So nothing is written any more while there is still a reserve, and nobody needs to guess
what became of a write; and when a shortage is over, `watch` has nats-server started again, in case it met one.

Leases go on into the reserve: they are small, and without them agents would be moved that nothing is wrong with.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from choregos.foundation.clock import Clock
from choregos.foundation.errors import Permanent, Temporary

MIB = 2**20
FREE_BYTES_MIN = 64 * MIB
"""Below this `choregos up` refuses to start; from here on a shortage is over."""

RESERVE_BYTES = 32 * MIB
"""Below this nothing is written but leases."""

LEASE_RESERVE_BYTES = 4 * MIB
LEASES = "al."
WATCH_PERIOD_S = 1.0


class Disk:
    """The file system that holds `place`, which need not exist yet."""

    def __init__(self, place: Path) -> None:
        self._place = place

    @property
    def free_bytes(self) -> int:
        there = self._place
        while True:
            try:
                return shutil.disk_usage(there).free
            except (FileNotFoundError, NotADirectoryError):
                there = there.parent

    def require_to_start(self) -> None:
        """Raises `Permanent` if there is too little space to begin with."""
        free = self.free_bytes
        if free < FREE_BYTES_MIN:
            raise Permanent(
                f"the disk of {self._place} has {free // MIB} MiB free, at least {FREE_BYTES_MIN // MIB} MiB are "
                "needed. Free some, or choose another directory with --data-dir."
            )

    def require_to_write(self, subject: str) -> None:
        """Raises `Temporary` if a record of this subject must not be written now."""
        free = self.free_bytes
        if free < (LEASE_RESERVE_BYTES if subject.startswith(LEASES) else RESERVE_BYTES):
            raise Temporary(
                f"the disk of {self._place} is full: {free // MIB} MiB free, nothing is written below "
                f"{RESERVE_BYTES // MIB} MiB. Free some; nothing needs to be restarted"
            )

    async def watch(self, clock: Clock, on_shortage_over: Callable[[], Awaitable[None]]) -> None:
        """For ever: calls `on_shortage_over` when there is space again after there was not enough to write."""
        short = False
        while True:
            free = self.free_bytes
            if short and free >= FREE_BYTES_MIN:
                short = False
                await on_shortage_over()
            elif free < RESERVE_BYTES:
                short = True
            await clock.sleep(WATCH_PERIOD_S)
