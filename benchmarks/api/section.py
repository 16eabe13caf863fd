"""The API server with ten thousand agents and ten thousand stored objects of two kinds, beside a real kube-apiserver.

The agents come from one manifest and run; they are read-only. The stored objects are AgentSets of no agents and
ConfigMaps, created through the API, on both servers. Requests go over TLS with the administrator's certificate, on
connections that are kept, from processes of their own; answers are read and not decoded. Floors are measured in the
same rounds: `GET /version`, a request that does nothing; and one record written with nats-py to our nats-server, which
like every write of ours is on disk before it is acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from benchmarks.api.commands import measure_commands
from benchmarks.api.http_connection import HttpConnection, client_tls, open_connection
from benchmarks.api.kubernetes import NAME, Kubernetes, running_kubernetes
from benchmarks.api.objects import AGENTSETS, CONFIGMAPS, Kind, encoded, stored
from benchmarks.api.requests import RequestSizes, measure_requests
from benchmarks.api.servers import Server, ours
from benchmarks.api.watches import WatchSizes, measure_watches
from benchmarks.fleets import cluster, running_machine, start
from benchmarks.report import Report, number

CREATED_AT_ONCE = 64
SETTLE_TIMEOUT_S, POLL_S = 300.0, 0.5


@dataclass(frozen=True, slots=True)
class ApiSizes:
    """`objects`: agents, AgentSets and ConfigMaps, of each so many. `commands`: how often each is run."""

    objects: int = 10_000
    requests: RequestSizes = field(default_factory=RequestSizes)
    watches: WatchSizes = field(default_factory=WatchSizes)
    commands: int = 9


async def measure_api(options: ApiSizes, kubernetes: Kubernetes) -> Report:
    report = Report(f"API server with {options.objects:,} agents, AgentSets and ConfigMaps each")
    async with AsyncExitStack() as stack:
        machine = await stack.enter_async_context(running_machine())
        servers = [ours(machine)]
        if kubernetes.programs is None:
            report.notes.append(f"{NAME} was not measured: {kubernetes.missing}.")
        else:
            report.notes.append(f"Beside ours: {kubernetes.versions}.")
            servers.append(await stack.enter_async_context(running_kubernetes(kubernetes)))
        await start(machine, cluster("fleet", "Echo", "echo", options.objects))
        for server in servers:
            report.notes.append(await _fill(server, options.objects))
        await measure_requests(report, servers, machine, options.objects, options.requests)
        await measure_watches(report, servers, options.watches)
        await measure_commands(report, servers, options.commands)
        for server in servers:
            held = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in server.memory().items())
            report.notes.append(f"Memory (USS) of {server.name} at the end: {held}.")
    return report


async def _fill(server: Server, objects: int) -> str:
    """Creates what is stored all the time; how quickly that went."""
    tls = client_tls(server.authority, server.identity)
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(open_connection(server.url, tls)) for _ in range(CREATED_AT_ONCE)
        ]
        per_s = [await _create(connections, kind, objects) for kind in (AGENTSETS, CONFIGMAPS)]
        rates = " and ".join(
            f"{number(rate)} {kind}s" for rate, kind in zip(per_s, ("AgentSet", "ConfigMap"), strict=True)
        )
        said = (
            f"{server.name} was filled with {rates} per second, {CREATED_AT_ONCE} clients creating, each write synced"
        )
        if server.name == "choregos":
            settled_s = await _settled(connections[0], objects)
            return f"{said}; {settled_s:.1f} s later the controllers had written a status on each AgentSet."
        return f"{said}."


async def _create(connections: Sequence[HttpConnection], kind: Kind, count: int) -> float:
    """How many a second."""
    waiting = iter(range(count))

    async def create(client: HttpConnection) -> None:
        for n in waiting:
            await client.send("POST", kind.path, body=encoded(kind.manifest(stored(n))))

    began = time.perf_counter()
    await asyncio.gather(*map(create, connections))
    return count / (time.perf_counter() - began)


async def _settled(client: HttpConnection, count: int) -> float:
    """Seconds until the controllers have seen every stored set."""
    began = time.perf_counter()
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while True:
            listing = json.loads(await client.send("GET", AGENTSETS.path))
            if sum("observedGeneration" in item.get("status", {}) for item in listing["items"]) >= count:
                return time.perf_counter() - began
            await asyncio.sleep(POLL_S)
