"""What the agents of a node use of it, found when somebody asks.

On a clock only the processor time of workers is read, so that an answer can say what it was lately. A worker's figures
are exact. Those of an agent that has it alone are the worker's; where several share it, processor time is shared out
by how long each has handled calls (`choregos.agent.worker.metering`), memory evenly, since nobody can tell whose an
object is.

Invariant: shares of a worker's agents add up to 1.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping

import psutil

from choregos.agent import footprints
from choregos.agent.footprints import Footprint
from choregos.agent.pool import Worker
from choregos.foundation.clock import Clock
from choregos.wire.node import VERSION, AgentUsage, MachineUsage, UsageReply, UsageRequest, WorkerUsage

log = logging.getLogger(__name__)

SAMPLE_S = 15.0
WINDOW_S_MIN = 10.0
"""An average over less than this says little."""

HANDLING_TIMEOUT_S = 3.0
MACHINE = -1
"""Stands for the machine among process ids."""


class UsageBook:
    """Readings of the workers, and answers made of them.

    Args:
        workers: those there are, at each call.
    """

    def __init__(self, workers: Callable[[], Iterable[Worker]], clock: Clock) -> None:
        self._workers = workers
        self._clock = clock
        self._measuring = asyncio.Lock()
        # Process id → (monotonic time, processor time) of the last two samples.
        self._samples: dict[int, deque[tuple[float, float]]] = {}

    async def sample(self) -> None:
        """Reads the processor times, for ever."""
        while True:
            try:
                await self._sample()
            except (OSError, psutil.Error) as error:  # no descriptors left, say; the next time there may be
                log.warning("what workers use cannot be read: %s", error)
            await self._clock.sleep(SAMPLE_S)

    async def _sample(self) -> None:
        measured = await self._measure({worker.process.pid for worker in self._workers()}, memory=False)
        now_s = self._clock.monotonic()
        self._samples = {pid: self._samples.get(pid) or deque(maxlen=2) for pid in measured}
        for pid, footprint in measured.items():
            self._samples[pid].append((now_s, footprint.cpu_s))

    async def answer(self, request: UsageRequest, worker_of: Callable[[str], Worker | None]) -> UsageReply:
        """The usage of those agents that are in a worker; others are left out."""
        hosts: dict[str, Worker] = {}
        where: list[tuple[str, str]] = []
        for uid in request.uids:
            worker = worker_of(uid)
            if worker is not None:
                hosts[worker.host] = worker
                where.append((uid, worker.host))
        measured = await self._measure({worker.process.pid for worker in hosts.values()}, memory=True)
        hosts = {host: worker for host, worker in hosts.items() if worker.process.pid in measured}
        shares = dict(zip(hosts, await asyncio.gather(*map(_shares, hosts.values())), strict=True))
        workers = [self._worker(worker, measured, *shares[host]) for host, worker in hosts.items()]
        index = {host: number for number, host in enumerate(hosts)}
        agents = tuple(
            AgentUsage(uid, index[host], shares[host][0].get(uid, 0.0)) for uid, host in where if host in index
        )
        return UsageReply(VERSION, self._clock.wall_ms(), tuple(workers), agents, self._machine(measured))

    async def _measure(self, pids: Collection[int], *, memory: bool) -> Mapping[int, Footprint]:
        """The footprints of workers and, under `MACHINE`, of the machine. One at a time: it is the kernel's work."""
        leaders = {pid for pid in pids if pid > 0}
        async with self._measuring:
            wall_s = self._clock.wall_ms() / 1000
            found = await asyncio.to_thread(footprints.of_groups, leaders, wall_s, memory=memory)
            return {**found, MACHINE: await asyncio.to_thread(footprints.of_machine)}

    def _worker(
        self, worker: Worker, measured: Mapping[int, Footprint], shares: Mapping[str, float], handling: bool
    ) -> WorkerUsage:
        footprint = measured[worker.process.pid]
        cores, window_s = self._lately(worker.process.pid, footprint)
        return WorkerUsage(worker.host, cores, footprint.memory, window_s, max(1, len(shares)), handling)

    def _machine(self, measured: Mapping[int, Footprint]) -> MachineUsage:
        footprint = measured[MACHINE]
        cores, window_s = self._lately(MACHINE, footprint)
        return MachineUsage(cores, footprint.memory, window_s)

    def _lately(self, pid: int, footprint: Footprint) -> tuple[float, float]:
        """Cores, and the seconds over which they are the average: from a sample, for want of one from the beginning."""
        now_s = self._clock.monotonic()
        samples = [(now_s - footprint.age_s, 0.0)] if footprint.age_s else []
        samples += self._samples.get(pid, ())
        if not samples:
            return 0.0, 0.0
        since_s, cpu_s = next((one for one in reversed(samples) if now_s - one[0] >= WINDOW_S_MIN), samples[0])
        window_s = now_s - since_s
        return (max(0.0, footprint.cpu_s - cpu_s) / window_s if window_s > 0 else 0.0), window_s


async def _shares(worker: Worker) -> tuple[dict[str, float], bool]:
    """What part of the worker's processor time is each resident's, and whether any has handled calls lately."""
    seconds: Mapping[str, float] = {}
    if len(worker.residents) > 1:
        seconds = await worker.handling(HANDLING_TIMEOUT_S)
    residents = tuple(worker.residents)
    weights = {uid: _sensible(seconds.get(uid, 0.0)) for uid in residents}
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(residents, 1 / max(1, len(residents))), False
    return {uid: weight / total for uid, weight in weights.items()}, True


def _sensible(seconds: float) -> float:
    """What a worker says, which runs code that is not ours."""
    return min(max(0.0, seconds), 1e6) if math.isfinite(seconds) else 0.0
