"""Calls from agent to agent, beside the request and reply they are made of, and beside xoscar.

One machine runs for all of it, and everything of ours and the raw requests use its nats-server with a worker's
credentials. In turn, round after round:

- `raw`: nats-py's own request and reply between two processes, the limit of what goes over nats-server;
- `agents, other worker` and `agents, same worker`: `self.call` by name inside the fleet;
- `agents, over the bus`: the same between workers that find no socket of one another, as those of two nodes: a
  namespace of its own, whose workers' sockets are taken away before the first call;
- `calls alone`: the code of `other worker` between two plain processes: what running in a fleet adds;
- xoscar: from actor to actor, in another process of its pool and in the same.

Everything runs on uvloop: workers do, and xoscar takes it when it is there.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks.fleets import DRIVER, cluster, drive, running_machine, start
from benchmarks.peers import Peer
from benchmarks.report import Claim, Report, median, number, quantile
from benchmarks.subject import Subject, SubjectFailed
from choregos.assembly.machine.up import Machine
from choregos.assembly.services.running import bus_address
from choregos.foundation.errors import Permanent
from choregos.messaging import neighbourhood
from choregos.security.credentials import BusUser
from choregos.wire.subjects import call_subject

RAW, ALONE = "nats-py, raw request and reply", "choregos, calls alone"
OTHER, SAME = "choregos, agents, other worker", "choregos, agents, same worker"
OVER_THE_BUS = "choregos, agents, over the bus"
SOCKETLESS = "socketless"
"""The namespace whose workers have no sockets."""

WARM_UP_CALLS = 64
RAW_SUBJECT = "c.benchmark.raw"
"""One that workers may serve; no agent's host is named so."""


@dataclass(frozen=True, slots=True)
class CallSizes:
    """`calls` in a row and four times as many at `in_flight`, each round."""

    calls: int = 2_000
    rounds: int = 7
    in_flight: int = 64


@dataclass(slots=True)
class Figures:
    """What was measured of one subject."""

    took_us: list[float] = field(default_factory=list)
    rounds_p50_us: list[float] = field(default_factory=list)
    calls_per_s: list[float] = field(default_factory=list)

    def add(self, took_us: list[float], calls_per_s: float) -> None:
        self.took_us += took_us
        self.rounds_p50_us.append(median(took_us))
        self.calls_per_s.append(calls_per_s)

    @property
    def p50_us(self) -> float:
        """The median of the rounds' medians."""
        return median(self.rounds_p50_us)


Ask = Callable[[int], Awaitable[dict[str, Any]]]
"""So many calls; the figures by the name of what was measured."""


async def measure_calls(options: CallSizes, peers: dict[str, Peer]) -> Report:
    found: dict[str, Figures] = defaultdict(Figures)
    missing: list[str] = []
    async with AsyncExitStack() as stack:
        machine = await stack.enter_async_context(running_machine())
        asked = [
            await _raw(stack, machine, options),
            await _agents(machine, options),
            await _agents_over_the_bus(machine, options),
            await _alone(stack, machine, options),
        ]
        try:
            asked.append(await _xoscar(stack, peers["xoscar"], options))
        except SubjectFailed as error:
            missing.append(f"xoscar was not measured: {error}")
        for ask in asked:
            await ask(WARM_UP_CALLS)
        for _ in range(options.rounds):
            for ask in asked:
                for name, figures in (await ask(options.calls)).items():
                    found[name].add(**figures)
    report = _report(options, found)
    report.notes += missing
    return report


async def _pair(
    stack: AsyncExitStack, machine: Machine, module: str, server_role: str, client: tuple[str, ...]
) -> Subject:
    """The calling one of two processes; both are workers to nats-server."""
    address = bus_address(machine.directory, machine.config, BusUser.WORKER)
    place = (*client[1:], address.servers[0], address.user)
    for role in (server_role, client[0]):
        subject = Subject(sys.executable, f"benchmarks.subjects.{module}", role, *place, secret=address.password)
        await stack.enter_async_context(subject)
    return subject


async def _raw(stack: AsyncExitStack, machine: Machine, options: CallSizes) -> Ask:
    subject = await _pair(stack, machine, "raw_nats", "respond", ("request", RAW_SUBJECT))

    async def ask(calls: int) -> dict[str, Any]:
        return {RAW: await subject.ask(calls=calls, in_flight=options.in_flight)}

    return ask


async def _alone(stack: AsyncExitStack, machine: Machine, options: CallSizes) -> Ask:
    subject = await _pair(stack, machine, "calls_alone", "serve", ("call", str(machine.directory.sockets)))

    async def ask(calls: int) -> dict[str, Any]:
        return {ALONE: await subject.ask(calls=calls, in_flight=options.in_flight)}

    return ask


async def _agents(machine: Machine, options: CallSizes) -> Ask:
    hosts = await _echoes(machine, "default")
    names = {OTHER: _echo_at(hosts, beside_driver=False), SAME: _echo_at(hosts, beside_driver=True)}

    async def ask(calls: int) -> dict[str, Any]:
        return {
            label: await drive(machine, "measure", name=name, calls=calls, in_flight=options.in_flight)
            for label, name in names.items()
        }

    return ask


async def _agents_over_the_bus(machine: Machine, options: CallSizes) -> Ask:
    await machine.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SOCKETLESS}})
    await start(machine, cluster("driver", "Driver", "drive", 1, SOCKETLESS))
    hosts = await _echoes(machine, SOCKETLESS)
    for host in set(hosts.values()):
        neighbourhood.forget(machine.directory.sockets, call_subject(machine.config.region, SOCKETLESS, host))
    name = _echo_at(hosts, beside_driver=False)

    async def ask(calls: int) -> dict[str, Any]:
        figures = await drive(machine, "measure", SOCKETLESS, name=name, calls=calls, in_flight=options.in_flight)
        return {OVER_THE_BUS: figures}

    return ask


async def _echoes(machine: Machine, namespace: str) -> dict[str, str]:
    """Starts some; the worker of each, and of the driver."""
    await start(machine, cluster("echoes", "Echo", "echo", 8, namespace))
    agents = await machine.client.list("agents", namespace=namespace)
    return {a["metadata"]["name"]: a["status"]["host"] for a in agents}


def _echo_at(hosts: dict[str, str], *, beside_driver: bool) -> str:
    """One that shares the driver's worker, or does not."""
    for name, host in hosts.items():
        if name != DRIVER and (host == hosts[DRIVER]) == beside_driver:
            return name
    raise Permanent("all echo agents are on one side: the node does not spread agents over its workers")


async def _xoscar(stack: AsyncExitStack, peer: Peer, options: CallSizes) -> Ask:
    if peer.python is None:
        raise SubjectFailed(peer.missing)
    subject = await stack.enter_async_context(Subject(peer.python, "benchmarks.subjects.xoscar_actors"))

    async def ask(calls: int) -> dict[str, Any]:
        answer = await subject.ask(calls=calls, in_flight=options.in_flight)
        return {f"{peer.label}, {place} process": answer[place] for place in ("other", "same")}

    return ask


def _report(options: CallSizes, found: dict[str, Figures]) -> Report:
    report = Report(
        f"Calls ({options.rounds} rounds of {options.calls:,} in a row and {4 * options.calls:,} together, "
        f"{options.in_flight} in flight)"
    )
    raw = found[RAW]
    raw_rate = median(raw.calls_per_s)
    rows = [
        (
            name,
            number(figures.p50_us),
            number(quantile(figures.took_us, 0.99)),
            number(median(figures.calls_per_s)),
            f"{number(min(figures.calls_per_s))} … {number(max(figures.calls_per_s))}",
            f"{figures.p50_us / raw.p50_us:.2f}",
            f"{median(figures.calls_per_s) / raw_rate:.2f}",
        )
        for name, figures in found.items()
    ]
    rate = f"calls/s at {options.in_flight}"
    report.table(
        "One call of 128 bytes there and back:",
        ("", "p50 us", "p99 us", rate, "least … most /s", "p50 / raw", "rate / raw"),
        rows,
    )
    report.claims = _claims(found)
    return report


def _claims(found: dict[str, Figures]) -> list[Claim]:
    raw, bus, other, same = found[RAW], found[OVER_THE_BUS], found[OTHER], found[SAME]
    claims = _against("raw", "over the bus", bus, raw, (1 / 1.25, 0.7))
    claims += _against("raw", "other worker", other, raw, (None, None))
    claims.append(Claim("p50, same worker, against over the bus", same.p50_us, bus.p50_us, "us", 10))
    claims.append(Claim("p50, same worker, against other worker", same.p50_us, other.p50_us, "us", 10))
    for name, figures in found.items():
        if name.endswith("other process"):
            claims += _against(name, "other worker", other, figures, (1, 1))
            claims += _against(name, "over the bus", bus, figures, (None, None))
        elif name.endswith("same process"):
            # What was asked for is about processes; within one we only tell.
            claims += _against(name, "same worker", same, figures, (None, None))
    return claims


def _against(
    name: str, place: str, ours: Figures, theirs: Figures, asked: tuple[float | None, float | None]
) -> list[Claim]:
    return [
        Claim(f"p50, {place}, against {name}", ours.p50_us, theirs.p50_us, "us", asked[0]),
        Claim(
            f"rate, {place}, against {name}", median(ours.calls_per_s), median(theirs.calls_per_s), "/s", asked[1], True
        ),
    ]
