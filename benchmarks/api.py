"""The API server with ten thousand agents and ten thousand stored objects: single requests, and a real kubectl.

The agents come from one manifest and run. The stored objects are AgentSets of no agents, created through the API; they
are what is patched, since agents are read-only. Requests go over TLS with the administrator's certificate, on
connections that are kept, from this process; answers are read and not decoded. Two floors are measured in the same
rounds: `GET /version`, a request that does nothing; and one record written with nats-py to the same nats-server, which
like every write of ours is on disk before it is acknowledged.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.fleets import cluster, memory_bytes, running_machine, start
from benchmarks.http_connection import HttpConnection, RequestFailed, administrator, open_connection
from benchmarks.report import Report, Row, median, number, quantile
from benchmarks.timing import Call, sequential_us
from choregos.assembly.machine.up import Machine
from choregos.assembly.services.running import bus_address
from choregos.foundation.bus import connect
from choregos.security.credentials import BusUser

PREFIX = "/apis/choregos.dev/v1/namespaces/default"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PAGE = 500
CREATED_AT_ONCE = 64
SETTLE_TIMEOUT_S, POLL_S = 300.0, 0.5
FLOOR_STREAM, FLOOR_SUBJECT = "BENCHMARK", "a.benchmark.default.floor"


@dataclass(frozen=True, slots=True)
class ApiSizes:
    """`requests` per client count and round of what is quick, `listings` pages of what is not."""

    objects: int = 10_000
    requests: int = 800
    listings: int = 40
    rounds: int = 5
    clients: tuple[int, ...] = (1, 16)
    commands: int = 7


@dataclass(slots=True)
class Figures:
    """What was measured of one operation with so many clients."""

    took_us: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Operation:
    """A kind of request. `make` gives what one client does over and over; `slow` ones are repeated less."""

    name: str
    make: Callable[[HttpConnection], Call]
    slow: bool = False


async def measure_api(options: ApiSizes) -> Report:
    async with AsyncExitStack() as stack:
        machine = await stack.enter_async_context(running_machine())
        tls = administrator(machine.directory.pki)
        connections = [
            await stack.enter_async_context(open_connection(machine.url, tls)) for _ in range(CREATED_AT_ONCE)
        ]
        await start(machine, cluster("fleet", "Echo", "echo", options.objects))
        created_per_s = await _create_sets(connections, options.objects)
        settled_s = await _settled(connections[0], options.objects)
        operations = [*_operations(options.objects), await _write_floor(stack, machine)]
        found: dict[tuple[str, int], Figures] = defaultdict(Figures)
        for _, clients, operation in itertools.product(range(options.rounds), options.clients, operations):
            await _round(found[operation.name, clients], operation, options, connections[:clients])
        report = Report(f"API server with {options.objects:,} agents and {options.objects:,} AgentSets stored")
        report.table(f"Requests over TLS ({options.rounds} rounds):", HEADER, [_row(*item) for item in found.items()])
        report.table(f"Commands (medians of {options.commands}):", COMMAND_HEADER, await _commands(machine, options))
        held = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in memory_bytes(machine).items())
    report.notes += [
        f"The AgentSets were created at {created_per_s:,.0f}/s, {CREATED_AT_ONCE} at a time, each synced to disk; "
        f"{settled_s:.1f} s later the controllers had written a status on each.",
        f"Memory (USS) at the end: {held}.",
    ]
    return report


async def _round(figures: Figures, operation: Operation, options: ApiSizes, clients: Sequence[HttpConnection]) -> None:
    each = max(1, (options.listings if operation.slow else options.requests) // len(clients))
    began = time.perf_counter()
    for took in await asyncio.gather(*(sequential_us(operation.make(client), each) for client in clients)):
        figures.took_us += took
    figures.per_s.append(each * len(clients) / (time.perf_counter() - began))


HEADER = ("request", "clients", "p50 ms", "p99 ms", "requests/s")


def _row(key: tuple[str, int], figures: Figures) -> Row:
    p50, p99 = (quantile(figures.took_us, share) / 1000 for share in (0.5, 0.99))
    return key[0], str(key[1]), number(p50), number(p99), number(median(figures.per_s))


def _operations(objects: int) -> list[Operation]:
    def one(plural: str, prefix: str) -> Callable[[HttpConnection], Call]:
        return lambda client: lambda: client.send("GET", f"{PREFIX}/{plural}/{prefix}-{random.randrange(objects)}")

    def patch(client: HttpConnection) -> Call:
        return lambda: client.send(
            "PATCH",
            f"{PREFIX}/agentsets/stored-{random.randrange(objects)}",
            body=json.dumps({"metadata": {"annotations": {"touched": str(random.random())}}}).encode(),
            sent="application/merge-patch+json",
        )

    def pages(plural: str, accept: str = "application/json") -> Callable[[HttpConnection], Call]:
        return lambda client: _Pages(client, plural, accept).next

    return [
        Operation("GET /version (floor)", lambda client: lambda: client.send("GET", "/version")),
        Operation("get an agent", one("agents", "fleet-echo")),
        Operation("get an AgentSet", one("agentsets", "stored")),
        Operation("merge-patch an AgentSet", patch),
        Operation(f"list {PAGE} agents", pages("agents"), slow=True),
        Operation(f"list {PAGE} agents as Table", pages("agents", TABLE), slow=True),
        Operation(f"list {PAGE} AgentSets", pages("agentsets"), slow=True),
        Operation(f"list {PAGE} AgentSets as Table", pages("agentsets", TABLE), slow=True),
    ]


class _Pages:
    """One client that lists everything page by page, over and over."""

    def __init__(self, client: HttpConnection, plural: str, accept: str) -> None:
        self._client, self._plural, self._accept = client, plural, accept
        self._token = ""

    async def next(self) -> bytes:
        query = {"limit": str(PAGE), "continue": self._token} if self._token else {"limit": str(PAGE)}
        target = f"{PREFIX}/{self._plural}?{urlencode(query)}"
        content = await self._client.send("GET", target, accept=self._accept)
        # The metadata stands first or last; decoding 500 objects to find it would be timed as the server's work.
        found = [part for part in (content[:1000], content[-1000:]) if b'"continue":"' in part]
        self._token = found[0].partition(b'"continue":"')[2].partition(b'"')[0].decode() if found else ""
        return content


async def _write_floor(stack: AsyncExitStack, machine: Machine) -> Operation:
    """A record of a patch's size, acknowledged by JetStream, in a stream of its own."""
    address = bus_address(machine.directory, machine.config, BusUser.CONTROL)
    bus = await stack.enter_async_context(connect(address, "benchmark"))
    stream = bus.client.jetstream()
    await stream.add_stream(name=FLOOR_STREAM, subjects=[FLOOR_SUBJECT], max_msgs_per_subject=1)
    record = b"y" * 1000
    return Operation("one record written with nats-py (floor)", lambda _: lambda: stream.publish(FLOOR_SUBJECT, record))


async def _create_sets(connections: Sequence[HttpConnection], count: int) -> float:
    """How many a second."""
    waiting = iter(range(count))

    async def create(client: HttpConnection) -> None:
        for n in waiting:
            manifest = {
                "apiVersion": "choregos.dev/v1",
                "kind": "AgentSet",
                "metadata": {"name": f"stored-{n}"},
                "spec": {"replicas": 0, "region": "local", "template": {"name": "t", "runtime": {"python": "m:C"}}},
            }
            await client.send("POST", f"{PREFIX}/agentsets", body=json.dumps(manifest).encode())

    began = time.perf_counter()
    await asyncio.gather(*map(create, connections))
    return count / (time.perf_counter() - began)


async def _settled(client: HttpConnection, count: int) -> float:
    """Seconds until the controllers have seen every stored set."""
    began = time.perf_counter()
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while True:
            listing = json.loads(await client.send("GET", f"{PREFIX}/agentsets"))
            if sum("observedGeneration" in item.get("status", {}) for item in listing["items"]) >= count:
                return time.perf_counter() - began
            await asyncio.sleep(POLL_S)


COMMAND_HEADER = ("command", "median s", "slowest s", "times kubectl's own start")


async def _commands(machine: Machine, options: ApiSizes) -> list[Row]:
    """Wall time of whole commands, in turn; the first of each, which fills kubectl's cache, is not counted."""
    bundled = Path(sys.executable).with_name("kubectl")
    kubectl = str(bundled) if bundled.exists() else shutil.which("kubectl")
    ours = [sys.executable, "-m", "choregos", "get", "agents", "--data-dir", str(machine.directory.root)]
    commands = {"choregos get agents": ours}
    if kubectl:
        commands = {
            "kubectl version --client": [kubectl, "version", "--client"],
            "kubectl get agents": [kubectl, "get", "agents"],
            "kubectl get agents --chunk-size=0": [kubectl, "get", "agents", "--chunk-size=0"],
            "kubectl get agent (one of them)": [kubectl, "get", "agent", "fleet-echo-0"],
            **commands,
        }
    environment = {
        **os.environ,
        "KUBECONFIG": str(machine.directory.kubeconfig),
        "KUBECACHEDIR": str(machine.directory.root / "kube-cache"),
    }
    took: dict[str, list[float]] = defaultdict(list)
    for n, (name, argv) in itertools.product(range(options.commands + 1), commands.items()):
        seconds = await _run(argv, environment)
        if n:
            took[name].append(seconds)
    own = median(next(iter(took.values())))
    return [(name, number(median(t)), number(max(t)), f"{median(t) / own:.1f}") for name, t in took.items()]


async def _run(argv: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    nowhere, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=nowhere, stderr=pipe)
    _, error = await process.communicate()
    if process.returncode:
        raise RequestFailed(f"{' '.join(argv)}: {error.decode()}")
    return time.perf_counter() - began
