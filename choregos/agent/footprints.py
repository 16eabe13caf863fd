"""What processes use of their machine, as the operating system counts it. Blocks; to be called in a thread.

A worker is its process and all others of its process group: whatever its agents have started and not detached.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

import psutil


class Footprint(NamedTuple):
    """
    Attributes:
        cpu_s: processor time since the beginning, in seconds; of a group, with that of its members that have ended.
        memory: bytes that would be free without it: pages that it shares with nobody (USS).
        age_s: how long it has existed, in seconds.
    """

    cpu_s: float
    memory: int
    age_s: float


def of_groups(leaders: Collection[int], now_wall_s: float, *, memory: bool) -> dict[int, Footprint]:
    """The footprints of process groups by their leader's process id; those that are gone are left out.

    Args:
        memory: costs the kernel about a millisecond for each process; without it all memory is 0.
    """
    found = {leader: Footprint(0.0, 0, 0.0) for leader in leaders}
    for leader, process in _members(found):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            cpu_s = times.user + times.system + times.children_user + times.children_system
            used = process.memory_full_info().uss if memory else 0
            age_s = max(0.0, now_wall_s - process.create_time())
            known = found[leader]
            found[leader] = Footprint(known.cpu_s + cpu_s, known.memory + used, max(known.age_s, age_s))
    return {leader: footprint for leader, footprint in found.items() if footprint.age_s}


def _members(leaders: Collection[int]) -> Iterator[tuple[int, psutil.Process]]:
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            group = os.getpgid(pid)
            if group in leaders:
                yield group, psutil.Process(pid)


def of_machine() -> Footprint:
    """Everything on the machine; its age is nobody's business and 0. Memory that can be given back at once is free."""
    times, memory = psutil.cpu_times(), psutil.virtual_memory()
    busy = ("user", "nice", "system", "irq", "softirq")
    return Footprint(sum(getattr(times, part, 0.0) for part in busy), memory.total - memory.available, 0.0)
