"""From one manifest to a fleet that has answered, beside Ray's and xoscar's actors.

Each repetition measures everyone once, each in fresh processes: ours at every size, xoscar at the same sizes, Ray at
small ones that keep the run short (its actors are processes). `ready` is the cluster's Ready condition as a client sees
it; `answered` is after one call to every agent, 64 at a time, from an agent of the fleet. Memory is USS over all
processes (nats-server, control plane, node and workers of ours), after minus before, per agent.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.fleets import cluster, drive, memory_bytes, processor_s, running_machine, start
from benchmarks.peers import Peer
from benchmarks.report import Claim, Report, median, number
from benchmarks.subject import Subject, SubjectFailed

IN_FLIGHT = 64
OURS = "choregos"


@dataclass(frozen=True, slots=True)
class FleetSizes:
    """How many agents, and how often; the claims are about `asked_at`."""

    sizes: Sequence[int] = (1_000, 10_000, 50_000)
    asked_at: int = 10_000
    ray_sizes: Sequence[int] = (10, 50)
    repetitions: int = 3


@dataclass(slots=True)
class Figures:
    """What was measured of one subject at one size; a value per repetition."""

    ready_s: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    bytes_per_agent: list[float] = field(default_factory=list)

    def add(self, ready_s: float, answered_s: float, bytes_per_agent: float) -> None:
        self.ready_s.append(ready_s)
        self.answered_s.append(answered_s)
        self.bytes_per_agent.append(bytes_per_agent)


Found = dict[tuple[str, int], Figures]


@dataclass(slots=True)
class Parts:
    """Of our processes at the size asked for: bytes per agent, and processor seconds until ready."""

    bytes_per_agent: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    processor_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


async def measure_fleet(options: FleetSizes, peers: dict[str, Peer]) -> Report:
    found: Found = defaultdict(Figures)
    missing: dict[str, str] = {}
    parts = Parts()
    for _ in range(options.repetitions):
        for size in options.sizes:
            await _ours(found, parts if size == options.asked_at else Parts(), size)
            await _peer(found, missing, peers["xoscar"], size)
        for size in options.ray_sizes:
            await _peer(found, missing, peers["ray"], size)
    return _report(options, found, parts, missing)


async def _ours(found: Found, parts: Parts, size: int) -> None:
    async with running_machine() as machine:
        memory, used = memory_bytes(machine), processor_s(machine)
        began = time.perf_counter()
        await start(machine, cluster("fleet", "Echo", "echo", size))
        ready_s = time.perf_counter() - began
        used_later = processor_s(machine)
        await drive(machine, "sweep", prefix="fleet-echo-", count=size, in_flight=IN_FLIGHT)
        answered_s = time.perf_counter() - began
        memory_later = memory_bytes(machine)
    for name in memory:
        parts.bytes_per_agent[name].append((memory_later[name] - memory[name]) / size)
        parts.processor_s[name].append(used_later[name] - used[name])
    grown = sum(memory_later.values()) - sum(memory.values())
    found[OURS, size].add(ready_s, answered_s, grown / size)


async def _peer(found: Found, missing: dict[str, str], peer: Peer, size: int) -> None:
    if peer.python is None or peer.name in missing:
        missing.setdefault(peer.name, peer.missing)
        return
    try:
        async with Subject(peer.python, f"benchmarks.subjects.{peer.name}_actors") as subject:
            found[peer.label, size].add(**await subject.ask(agents=size, in_flight=IN_FLIGHT))
    except SubjectFailed as error:
        missing[peer.name] = str(error)


def _report(options: FleetSizes, found: Found, parts: Parts, missing: dict[str, str]) -> Report:
    report = Report(f"Fleet: one manifest to agents that have answered (medians of {options.repetitions})")
    rows = []
    for (name, size), figures in sorted(found.items(), key=lambda item: (item[0][0] != OURS, item[0])):
        ready_s, answered_s = median(figures.ready_s), median(figures.answered_s)
        rows.append(
            (
                name,
                f"{size:,}",
                number(ready_s),
                number(size / ready_s),
                number(answered_s),
                number(size / answered_s),
                f"{min(size / s for s in figures.answered_s):,.0f} … {max(size / s for s in figures.answered_s):,.0f}",
                number(median(figures.bytes_per_agent) / 1000),
            )
        )
    header = ("", "agents", "ready s", "ready /s", "answered s", "answered /s", "least … most /s", "kB per agent")
    report.table("How cost grows:", header, rows)
    report.table(
        f"Where it goes at {options.asked_at:,} agents:",
        ("process", "kB per agent", "processor s until ready"),
        [
            (name, number(median(kept) / 1000), number(median(parts.processor_s[name])))
            for name, kept in parts.bytes_per_agent.items()
        ],
    )
    _claims(report, options, found)
    report.notes.append(
        "An actor of Ray is a process: ten thousand are not tried. Ours at the size asked for stands against few of "
        "Ray's, so few that the run stays short; each size is shown."
    )
    report.notes += [f"{name} was not measured: {why}" for name, why in missing.items()]
    return report


def _claims(report: Report, options: FleetSizes, found: Found) -> None:
    ours = found[OURS, options.asked_at]
    at = f"{options.asked_at:,} agents"
    for (name, size), theirs in found.items():
        if name.startswith("ray"):
            report.claims += [
                Claim(
                    f"answered, against {size} actors of {name}",
                    *_rates(ours, options.asked_at, theirs, size),
                    "/s",
                    300,
                    True,
                ),
                Claim(
                    f"memory per agent, against {size} actors of {name}",
                    median(ours.bytes_per_agent) / 1000,
                    median(theirs.bytes_per_agent) / 1000,
                    "kB",
                    1000,
                ),
            ]
        elif name != OURS and size == options.asked_at:
            report.claims += [
                Claim(
                    f"{at} ready, against {name}'s created",
                    size / median(ours.ready_s),
                    size / median(theirs.ready_s),
                    "/s",
                    1 / 3,
                    True,
                ),
                Claim(f"{at} answered, against {name}", *_rates(ours, size, theirs, size), "/s", 1 / 3, True),
            ]
    report.claims += [
        Claim(f"{at} answered, against the aim", options.asked_at / median(ours.answered_s), 2000, "/s", 1, True),
        Claim("memory per agent, against the aim", median(ours.bytes_per_agent) / 1000, 20, "kB", 1),
    ]


def _rates(ours: Figures, our_size: int, theirs: Figures, their_size: int) -> tuple[float, float]:
    return our_size / median(ours.answered_s), their_size / median(theirs.answered_s)
