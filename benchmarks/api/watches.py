"""Many watchers of one collection: how long after its write was sent an event arrives at each of them.

First one writer at a steady pace, then several as fast as they can. The watchers are in processes of their own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks.api.http_connection import HttpConnection, client_tls, open_connection
from benchmarks.api.objects import CONFIGMAPS, encoded, stored
from benchmarks.api.servers import Server
from benchmarks.report import Report, Row, number, quantile
from benchmarks.subject import Subject

PROCESSES = 2
OBJECTS = 50
"""So many objects are written to in turn: of them is spoken."""


@dataclass(frozen=True, slots=True)
class WatchSizes:
    """`writes` at `pace_per_s`, then `burst` by `writers` at once."""

    watchers: tuple[int, ...] = (100, 1_000)
    writes: int = 100
    pace_per_s: float = 10.0
    burst: int = 200
    writers: int = 16


HEADER = (
    *("watched", "watchers", "events/s", "p50 ms", "p99 ms", "slowest ms", "events/s at most"),
    *("API server's kB per watcher", "not delivered"),
)


async def measure_watches(report: Report, servers: Sequence[Server], sizes: WatchSizes) -> None:
    rows: list[Row] = []
    for server in servers:
        rows += await _measure(server, sizes)
    pace = f"{sizes.pace_per_s:g} writes a second by one writer, then {sizes.burst} by {sizes.writers} at once"
    report.table(f"Watchers of all ConfigMaps, from a write's sending to its event's arrival ({pace}):", HEADER, rows)


async def _measure(server: Server, sizes: WatchSizes) -> list[Row]:
    tls = client_tls(server.authority, server.identity)
    place = (server.url, str(server.authority), str(server.identity), CONFIGMAPS.path)
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(Subject(sys.executable, "benchmarks.subjects.api_watchers", *place))
            for _ in range(PROCESSES)
        ]
        before = server.api_bytes
        for watchers in sizes.watchers:
            async with AsyncExitStack() as writing:
                writers = [
                    await writing.enter_async_context(open_connection(server.url, tls)) for _ in range(sizes.writers)
                ]
                await _open(processes, writers[0], watchers)
                each_kb = (server.api_bytes - before) / 1000 / watchers
                took_us, lasted_s, _ = await _paced(writers[0], processes, sizes)
                _, _, most_per_s = await _burst(writers, processes, sizes)
            missing = watchers * sizes.writes - len(took_us)
            rows.append(
                (
                    server.name,
                    number(watchers),
                    number(len(took_us) / lasted_s),
                    *(number(quantile(took_us, share) / 1000) for share in (0.5, 0.99, 1.0)),
                    number(most_per_s),
                    number(each_kb),
                    str(missing),
                )
            )
    return rows


async def _open(processes: Sequence[Subject], client: HttpConnection, watchers: int) -> None:
    """Has so many watchers in all, from now on."""
    listing = json.loads(await client.send("GET", f"{CONFIGMAPS.path}?limit=1"))
    await _ask(processes, watchers=watchers // PROCESSES, revision=listing["metadata"]["resourceVersion"])


Delays = tuple[list[float], float, float]
"""Microseconds of each event at each watcher, seconds from the first sending to the last arrival, events per second."""


async def _paced(writer: HttpConnection, processes: Sequence[Subject], sizes: WatchSizes) -> Delays:
    began_ns = time.monotonic_ns()
    for n in range(sizes.writes):
        await asyncio.sleep(n / sizes.pace_per_s - (time.monotonic_ns() - began_ns) / 1e9)
        await _write(writer, n)
    return await _delays(processes, sizes.writes, began_ns)


async def _burst(writers: Sequence[HttpConnection], processes: Sequence[Subject], sizes: WatchSizes) -> Delays:
    waiting, began_ns = iter(range(sizes.burst)), time.monotonic_ns()

    async def write(writer: HttpConnection) -> None:
        for n in waiting:
            await _write(writer, n)

    await asyncio.gather(*map(write, writers))
    return await _delays(processes, sizes.burst, began_ns)


async def _write(writer: HttpConnection, n: int) -> None:
    change = encoded({"data": {"sent": str(time.monotonic_ns())}})
    path = f"{CONFIGMAPS.path}/{stored(n % OBJECTS)}"
    await writer.send("PATCH", path, body=change, sent="application/merge-patch+json")


async def _delays(processes: Sequence[Subject], events: int, began_ns: int) -> Delays:
    answers = await _ask(processes, events=events)
    took_us = [took for answer in answers for took in answer["took_us"]]
    lasted_s = (max(answer["last_ns"] for answer in answers) - began_ns) / 1e9
    return took_us, lasted_s, len(took_us) / lasted_s


async def _ask(processes: Sequence[Subject], **command: object) -> list[dict[str, object]]:
    return await asyncio.gather(*(process.ask(**command) for process in processes))
