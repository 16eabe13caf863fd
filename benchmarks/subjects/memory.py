"""What processes hold for themselves alone: their unique set size (USS), the memory that their end would free."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def unique_bytes(pids: Iterable[int]) -> dict[int, int]:
    """USS of those that are still there, by process id."""
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found[pid] = int(psutil.Process(pid).memory_full_info().uss)
    return found


def descendants(pid: int) -> list[int]:
    """Process ids of `pid`'s children and theirs."""
    return [process.pid for process in psutil.Process(pid).children(recursive=True)]
