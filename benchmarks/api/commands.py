"""A real kubectl: how much longer its commands take than it takes to start, and what of that are its requests."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.api.http_connection import RequestFailed
from benchmarks.api.objects import stored
from benchmarks.api.servers import Server
from benchmarks.report import Report, Row, median, number

HEADER = ("command", "server", "median ms", "slowest ms", "ms over kubectl's start", "requests", "ms in requests")
START = "kubectl version --client"
COMMANDS = {
    "kubectl get --raw /version": ["get", "--raw", "/version"],
    "kubectl get agentset (one of them)": ["get", "agentset", stored(1)],
    "kubectl get configmap (one of them)": ["get", "configmap", stored(1)],
    "kubectl get agentsets": ["get", "agentsets"],
    "kubectl get agentsets --chunk-size=0": ["get", "agentsets", "--chunk-size=0"],
}
OUR_COMMANDS = {
    "kubectl get agent (one of them)": ["get", "agent", "fleet-echo-0"],
    "kubectl get agents --chunk-size=0": ["get", "agents", "--chunk-size=0"],
}
REQUEST_MS = re.compile(r"(?:milliseconds=| in )(\d+)(?: milliseconds)?$", re.MULTILINE)
"""The end of the line that kubectl prints of each request with `-v=6`, old and new."""


async def measure_commands(report: Report, servers: Sequence[Server], times: int) -> None:
    """Wall time of whole commands, in turn; the first of each, which fills kubectl's cache, is not counted."""
    found = Path(sys.executable).with_name("kubectl")
    kubectl = str(found) if found.exists() else shutil.which("kubectl")
    choregos = servers[0].kubeconfig.parent
    plain = [sys.executable, "-m", "choregos", "get", "agents", "--data-dir", str(choregos)]
    commands: dict[tuple[str, str], list[str]] = {}
    if kubectl is not None:
        commands[START, ""] = [kubectl, "version", "--client"]
        for server in servers:
            ours = OUR_COMMANDS if server is servers[0] else {}
            commands |= {(name, server.name): [kubectl, *rest] for name, rest in (COMMANDS | ours).items()}
    commands["choregos get agents", servers[0].name] = plain
    environments = {server.name: _environment(server) for server in servers} | {"": dict(os.environ)}
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    requests: dict[tuple[str, str], list[int]] = {}
    for n, (key, argv) in itertools.product(range(times + 1), commands.items()):
        if n == 1 and argv[0] == kubectl:
            requests[key] = await _requests(argv, environments[key[1]])
        ms, _ = await _run(argv, environments[key[1]])
        if n:
            took[key].append(ms)
    own = median(took.get((START, ""), [0.0]))
    rows = [_row(key, took[key], own, requests.get(key)) for key in commands]
    report.table(f"Commands (medians of {times}):", HEADER, rows)


def _row(key: tuple[str, str], took: Sequence[float], own: float, requests: Sequence[int] | None) -> Row:
    asked = ("", "") if not requests else (str(len(requests)), str(sum(requests)))
    return *key, number(median(took)), number(max(took)), f"{median(took) - own:,.1f}", *asked


def _environment(server: Server) -> dict[str, str]:
    cache = server.kubeconfig.parent / "kube-cache"
    return {**os.environ, "KUBECONFIG": str(server.kubeconfig), "KUBECACHEDIR": str(cache)}


async def _requests(argv: Sequence[str], environment: dict[str, str]) -> list[int]:
    """Milliseconds of each request that a command of kubectl makes, as it says itself."""
    _, said = await _run([*argv, "-v=6"], environment)
    return [int(ms) for ms in REQUEST_MS.findall(said)]


async def _run(argv: Sequence[str], environment: dict[str, str]) -> tuple[float, str]:
    """Milliseconds, and what was printed to stderr."""
    began = time.perf_counter()
    nowhere, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=nowhere, stderr=pipe)
    _, error = await process.communicate()
    took_ms = (time.perf_counter() - began) * 1000
    if process.returncode:
        raise RequestFailed(f"{' '.join(argv)}: {error.decode()}")
    return took_ms, error.decode()
