"""Single requests by 1, 16 and 64 clients: how long each takes, how many a second; ours and Kubernetes' in turns.

The clients are as many processes as it takes for them not to be what is measured: how busy the busiest was is told.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from benchmarks.api.objects import AGENTS, AGENTSETS, CONFIGMAPS, Kind
from benchmarks.api.operations import PAGE
from benchmarks.api.servers import Server
from benchmarks.report import Claim, Report, Row, median, number, quantile
from benchmarks.subject import Subject
from benchmarks.timing import sequential_us
from choregos.assembly.machine.up import Machine
from choregos.assembly.services.running import bus_address
from choregos.foundation.bus.connection import connect
from choregos.security.credentials import BusUser

PROCESSES = 2
FLOOR_STREAM, FLOOR_SUBJECT = "BENCHMARK", "a.benchmark.default.floor"
SLO_MS, AIM = 1000.0, 100.0
"""Kubernetes promises that 99 % of requests for single objects take less than a second; we aim two orders below."""


@dataclass(frozen=True, slots=True)
class RequestSizes:
    """Requests per client count and round: `reads` of one object, `writes`, `listings` of a page."""

    reads: int = 1_600
    writes: int = 320
    listings: int = 48
    rounds: int = 3
    clients: tuple[int, ...] = (1, 16, 64)


@dataclass(slots=True)
class Figures:
    """What was measured of one operation with so many clients."""

    took_us: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    @property
    def p50_ms(self) -> float:
        return quantile(self.took_us, 0.5) / 1000

    @property
    def p99_ms(self) -> float:
        return quantile(self.took_us, 0.99) / 1000


Work = tuple[Kind, str]
"""A kind of object and an operation on it."""

FLOOR = (AGENTSETS, "GET /version (floor)")
READS = ("get", f"list {PAGE}", f"list {PAGE} as Table", "list all")
WRITES = ("create", "merge-patch", "server-side apply", "delete")
STORED: tuple[Work, ...] = (
    FLOOR,
    *itertools.product((AGENTSETS,), (*READS, *WRITES)),
    *itertools.product((CONFIGMAPS,), ("get", f"list {PAGE}", *WRITES)),
)
AGENT_READS: tuple[Work, ...] = tuple(itertools.product((AGENTS,), READS))
Found = dict[tuple[str, Work, int], Figures]
"""By server, work and clients."""


async def measure_requests(
    report: Report, servers: Sequence[Server], machine: Machine, objects: int, sizes: RequestSizes
) -> None:
    found: Found = defaultdict(Figures)
    async with AsyncExitStack() as stack:
        loads = {server.name: await _load(stack, server, objects) for server in servers}
        for _, clients in itertools.product(range(sizes.rounds), sizes.clients):
            for work, server in itertools.product((*STORED, *AGENT_READS), servers):
                if (work[0] is AGENTS and server is not servers[0]) or (work[1] == "list all" and clients > 1):
                    continue
                await _round(found[server.name, work, clients], loads[server.name], work, clients, sizes)
        floor = await _write_floor(stack, machine, sizes)
    names = [server.name for server in servers]
    ran = f"({sizes.rounds} rounds)"
    report.table(f"Requests over TLS {ran}:", _header(names), _rows(found, names, STORED, sizes.clients))
    rows = _rows(found, names[:1], AGENT_READS, sizes.clients)
    report.table(f"Agents, which are instances and read-only {ran}:", _header(names[:1]), rows)
    report.claims += _promises(found, sizes.clients)
    busiest = max(max(figures.busy) for figures in found.values())
    report.notes += [
        f"One record written with nats-py and synced, the floor of a write of ours: p50 {number(floor.p50_ms)} ms, "
        f"p99 {number(floor.p99_ms)} ms.",
        f"The clients are {PROCESSES} processes, one for a single client; the busiest took {busiest:.0%} of a core.",
    ]


async def _load(stack: AsyncExitStack, server: Server, objects: int) -> list[Subject]:
    """The clients' processes."""
    return [
        await stack.enter_async_context(
            Subject(
                sys.executable,
                "benchmarks.subjects.api_clients",
                *(server.url, str(server.authority), str(server.identity)),
                *(str(objects), f"made-{n}"),
            )
        )
        for n in range(PROCESSES)
    ]


async def _round(figures: Figures, load: Sequence[Subject], work: Work, clients: int, sizes: RequestSizes) -> None:
    kind, operation = work
    processes = load[: min(clients, PROCESSES)]
    count = sizes.writes if operation in WRITES else sizes.listings if operation.startswith("list") else sizes.reads
    each = 2 if operation == "list all" else max(1, count // clients)
    shares = [len(range(n, clients, len(processes))) for n in range(len(processes))]
    answers = await asyncio.gather(
        *(
            process.ask(operation=operation, kind=kind.plural, clients=share, each=each)
            for process, share in zip(processes, shares, strict=True)
        )
    )
    took_s = max(answer["ended"] for answer in answers) - min(answer["began"] for answer in answers)
    for answer in answers:
        figures.took_us += answer["took_us"]
        figures.busy.append(answer["processor_s"] / (answer["ended"] - answer["began"]))
    figures.per_s.append(each * clients / took_s)


def _header(names: Sequence[str]) -> Row:
    if len(names) == 1:
        return "request", "clients", "p50 ms", "p99 ms", "requests/s"
    beside = [column for name in names for column in (f"{name} p50 ms", "p99 ms", "/s")]
    return "request", "clients", *beside, "rate, times theirs"


def _rows(found: Found, names: Sequence[str], works: Sequence[Work], clients: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    for count, work in itertools.product(clients, works):
        figures = [found[name, work, count] for name in names if (name, work, count) in found]
        if not figures:
            continue
        row = [_shown(work), str(count)]
        for one in figures:
            row += [number(one.p50_ms), number(one.p99_ms), number(median(one.per_s))]
        if len(figures) > 1:
            row.append(number(median(figures[0].per_s) / median(figures[1].per_s)))
        rows.append(row)
    return rows


def _shown(work: Work) -> str:
    kind, operation = work
    if work == FLOOR:
        return operation
    verb, _, rest = operation.partition(" ")
    if verb == "list":
        return f"{operation.replace(' as Table', '')} {kind.kind}s{' as Table' if 'Table' in rest else ''}"
    return f"{operation} {'an' if kind.kind[0] == 'A' else 'a'} {kind.kind}"


def _promises(found: Found, clients: Sequence[int]) -> list[Claim]:
    claims = []
    for count, operation in itertools.product(clients, ("get", *WRITES)):
        work = (AGENTSETS, operation)
        ours = found["choregos", work, count].p99_ms
        what = f"p99, {_shown(work)}, clients: {count}, against Kubernetes' SLO"
        claims.append(Claim(what, ours, SLO_MS, "ms", AIM))
    return claims


async def _write_floor(stack: AsyncExitStack, machine: Machine, sizes: RequestSizes) -> Figures:
    """A record of a patch's size, acknowledged by JetStream, in a stream of its own."""
    address = bus_address(machine.directory, machine.config, BusUser.CONTROL)
    bus = await stack.enter_async_context(connect(address, "benchmark"))
    stream = bus.client.jetstream()
    await stream.add_stream(name=FLOOR_STREAM, subjects=[FLOOR_SUBJECT], max_msgs_per_subject=1)
    record, began = b"y" * 1000, time.perf_counter()
    took = await sequential_us(lambda: stream.publish(FLOOR_SUBJECT, record), sizes.writes * sizes.rounds)
    return Figures(took, [len(took) / (time.perf_counter() - began)])
