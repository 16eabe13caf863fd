"""A whole machine to measure on: what `choregos up` starts, with echo agents and one that drives them.

Capacity is declared, not measured, so that ten thousand agents fit on any machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.subject import CACHE, ROOT
from benchmarks.subjects.memory import descendants, unique_bytes
from choregos.assembly.machine.options import UpOptions
from choregos.assembly.machine.up import Machine

CAPACITY = {"cpu": "200", "memory": "128Gi", "agents": "200000"}
READY_TIMEOUT_S = 600.0
DRIVER = "driver-driver-0"


def cluster(name: str, agent: str, capability: str, replicas: int, namespace: str = "default") -> dict[str, Any]:
    """A manifest of `replicas` agents of one class of `benchmarks.echo_agents`."""
    template = {
        "name": agent.lower(),
        "replicas": replicas,
        "capabilities": [capability],
        "resources": {"cpu": "1m", "memory": "64Ki"},
        "runtime": {"python": f"benchmarks.echo_agents:{agent}", "path": str(ROOT)},
    }
    return {
        "apiVersion": "choregos.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"agents": [template]},
    }


async def start(machine: Machine, manifest: dict[str, Any]) -> None:
    """Applies a manifest and returns when all its agents are ready."""
    await machine.client.apply(manifest)
    name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
    await machine.client.wait("agentcluster", name, "condition=Ready", timeout_s=READY_TIMEOUT_S, namespace=namespace)


@asynccontextmanager
async def running_machine(workers: int = 2) -> AsyncIterator[Machine]:
    """A fresh one, with a driver (`DRIVER`) and two echo agents, so that every worker has started.

    Its files lie next to the checkout's, on a disk, because every write is synced to it.
    """
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        options = UpOptions(Path(folder), api_port=0, workers=workers, capacity=CAPACITY)
        async with Machine(options) as machine:
            await start(machine, cluster("driver", "Driver", "drive", 1))
            await start(machine, cluster("warm", "Echo", "echo", 2))
            yield machine


async def drive(machine: Machine, method: str, namespace: str = "default", **arguments: Any) -> Any:
    """Has the driver of a namespace do something."""
    return await machine.client.call(
        agent=DRIVER, method=method, timeout_s=READY_TIMEOUT_S, namespace=namespace, **arguments
    )


def memory_bytes(machine: Machine) -> dict[str, int]:
    """USS of each part: nats-server, control, node, and the workers together."""
    parts = {}
    for name, child in machine.children.items():
        parts[name] = sum(unique_bytes([child.pid]).values())
    parts["workers"] = sum(unique_bytes(descendants(machine.children["node"].pid)).values())
    return parts


def processor_s(machine: Machine) -> dict[str, float]:
    """Processor time that each part has used so far."""
    parts = {name: _used_s([child.pid]) for name, child in machine.children.items()}
    parts["workers"] = _used_s(descendants(machine.children["node"].pid))
    return parts


def _used_s(pids: list[int]) -> float:
    used = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        used += times.user + times.system
    return used
