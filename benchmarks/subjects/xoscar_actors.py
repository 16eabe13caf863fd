"""xoscar: actors in two processes of a pool, created, called once, and called often. On the peers' interpreter.

The calls come from an actor, as ours come from an agent. Actors are stateless ones, which xoscar does not lock,
and every process is on uvloop: the pool takes it by itself, the creating process is put on it here.
"""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import Any

import uvloop
import xoscar  # type: ignore[import-not-found, unused-ignore]
from xoscar import allocate_strategy

from benchmarks.lines import Answer, serve_lines
from benchmarks.subjects.memory import descendants, unique_bytes
from benchmarks.timing import PAYLOAD, call_figures, together

PROCESSES = 2
CREATED_AT_ONCE = 500


class Echo(xoscar.StatelessActor):  # type: ignore[misc, unused-ignore]
    """Returns what it is given."""

    async def echo(self, payload: bytes) -> bytes:
        return payload


class Driver(xoscar.StatelessActor):  # type: ignore[misc, unused-ignore]
    """Calls others from inside the pool."""

    async def sweep(self, references: list[Any], in_flight: int) -> float:
        return await together((partial(reference.echo, PAYLOAD) for reference in references), in_flight)

    async def measure(self, reference: Any, calls: int, in_flight: int) -> dict[str, object]:
        return await call_figures(lambda: reference.echo(PAYLOAD), calls, in_flight)


class Pool:
    """A pool of two processes besides this one, as a machine of ours with two workers."""

    def __init__(self, pool: Any) -> None:
        self._address = pool.external_address
        self._made = 0

    async def handle(self, command: dict[str, Any]) -> Answer:
        if "agents" in command:
            return await self._fleet(command["agents"], command["in_flight"])
        return await self._calls(command["calls"], command["in_flight"])

    async def create(self, actor: type, process: int) -> Any:
        self._made += 1
        place = allocate_strategy.ProcessIndex(1 + process)
        return await xoscar.create_actor(
            actor, address=self._address, uid=f"actor-{self._made}", allocate_strategy=place
        )

    async def _fleet(self, agents: int, in_flight: int) -> Answer:
        driver = await self.create(Driver, 0)
        pids = [os.getpid(), *descendants(os.getpid())]
        before = sum(unique_bytes(pids).values())
        began = time.perf_counter()
        references: list[Any] = []
        for first in range(0, agents, CREATED_AT_ONCE):
            batch = range(first, min(first + CREATED_AT_ONCE, agents))
            references += await asyncio.gather(*(self.create(Echo, n % PROCESSES) for n in batch))
        ready_s = time.perf_counter() - began
        await driver.sweep(references, in_flight)
        answered_s = time.perf_counter() - began
        grown = sum(unique_bytes(pids).values()) - before
        return {"ready_s": ready_s, "answered_s": answered_s, "bytes_per_agent": grown / agents}

    async def _calls(self, calls: int, in_flight: int) -> Answer:
        driver, near, far = [await self.create(actor, p) for actor, p in ((Driver, 0), (Echo, 0), (Echo, 1))]
        return {
            "other": await driver.measure(far, calls, in_flight),
            "same": await driver.measure(near, calls, in_flight),
        }


async def main() -> None:
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=PROCESSES, subprocess_start_method="spawn")
    async with pool:
        await serve_lines(Pool(pool).handle)


if __name__ == "__main__":
    uvloop.run(main())
