"""`python -m benchmarks [fleet|calls|api] [--tiny]`: prints a report as Markdown."""

from __future__ import annotations

import argparse

import uvloop

from benchmarks.api.kubernetes import Kubernetes, find_kubernetes
from benchmarks.api.requests import RequestSizes
from benchmarks.api.section import ApiSizes, measure_api
from benchmarks.api.watches import WatchSizes
from benchmarks.calls import CallSizes, measure_calls
from benchmarks.fleet import FleetSizes, measure_fleet
from benchmarks.peers import Peer, find_peers, no_peers
from benchmarks.report import Report, machine

SECTIONS = ("fleet", "calls", "api")
TINY_API = ApiSizes(
    objects=60,
    requests=RequestSizes(reads=32, writes=32, listings=2, rounds=2, clients=(1, 4)),
    watches=WatchSizes(watchers=(4,), writes=4, burst=8, writers=2),
    commands=1,
)


async def measure(section: str, peers: dict[str, Peer], kubernetes: Kubernetes, *, tiny: bool) -> Report:
    """One section, at the documented size or at one that only shows that it runs."""
    if section == "fleet":
        sizes = FleetSizes((20, 40), asked_at=40, ray_sizes=(2,), repetitions=1) if tiny else FleetSizes()
        return await measure_fleet(sizes, peers)
    if section == "calls":
        return await measure_calls(CallSizes(calls=64, rounds=2) if tiny else CallSizes(), peers)
    return await measure_api(TINY_API if tiny else ApiSizes(), kubernetes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("section", nargs="?", choices=SECTIONS, help="all, if none is named")
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    parser.add_argument("--no-peers", action="store_true", help="measure only ours; install nothing")
    options = parser.parse_args()
    reason = "--no-peers was given"
    kubernetes = Kubernetes(missing=reason) if options.no_peers else find_kubernetes()
    # The API server has other peers than agents have.
    peers = no_peers(reason) if options.no_peers or options.section == "api" else find_peers()
    print(f"# Benchmarks\n\n{machine()}\n", flush=True)
    for section in [options.section] if options.section else SECTIONS:
        print(uvloop.run(measure(section, peers, kubernetes, tiny=options.tiny)), flush=True)
    print(f"At the end: {machine()}")


if __name__ == "__main__":
    main()
