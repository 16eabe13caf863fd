"""Ray: so many actors, created and called once. Runs on the peers' interpreter, for one measurement.

An actor of Ray is a process; `num_cpus=0` keeps its scheduler from holding them back on a small machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Any

import psutil
import ray  # type: ignore[import-not-found, unused-ignore]

from benchmarks.lines import Answer, serve_lines
from benchmarks.subjects.memory import unique_bytes
from benchmarks.timing import PAYLOAD

OBJECT_STORE_BYTES = 200 * 1024 * 1024


class Echo:
    """Returns what it is given."""

    async def echo(self, payload: bytes) -> bytes:
        return payload

    async def pid(self) -> int:
        return os.getpid()


async def measure(agents: int) -> Answer:
    """Seconds until all have answered, and bytes per actor (of the actors' own processes)."""
    began = time.perf_counter()
    remote: Any = ray.remote(num_cpus=0)(Echo)
    actors = [remote.remote() for _ in range(agents)]
    await asyncio.to_thread(ray.get, [actor.echo.remote(PAYLOAD) for actor in actors])
    answered_s = time.perf_counter() - began
    pids = await asyncio.to_thread(ray.get, [actor.pid.remote() for actor in actors])
    # Creation is not observable apart from the first answer.
    return {
        "ready_s": answered_s,
        "answered_s": answered_s,
        "bytes_per_agent": sum(unique_bytes(pids).values()) / agents,
    }


def main() -> None:
    ray.init(
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
    )
    mine = psutil.Process().children(recursive=True)
    try:
        asyncio.run(serve_lines(lambda command: measure(command["agents"])))
    finally:
        ray.shutdown()
        _, left = psutil.wait_procs(mine, timeout=20)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


if __name__ == "__main__":
    main()
