"""What a machine has for agents: measured, or declared by whoever starts the node.

Amounts are thousandths, as everywhere (`resources.quantity.Milli`). Measured capacity keeps a reservation for the
node itself and its neighbours; declared capacity is taken at its word, to try manifests larger than the machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from choregos.resources.quantity import format_binary, format_decimal

CPU, MEMORY, GPU, AGENTS = "cpu", "memory", "gpu", "agents"

AGENTS_MAX = 50_000
"""Agents on one node unless declared otherwise: what its directory, its log and its workers were measured with."""

RESERVED_CPU = 100
MEBIBYTE = 1024 * 1024
RESERVED_MEMORY = 256 * MEBIBYTE * 1000


@dataclass(frozen=True, slots=True)
class Capacity:
    """What there is, and what of it agents may use."""

    total: Mapping[str, int]
    allocatable: Mapping[str, int]


def find_capacity(declared: Mapping[str, int]) -> Capacity:
    """Measures the machine; resources named in `declared` are as it says, reservation included."""
    measured = {
        CPU: cores() * 1000,
        MEMORY: psutil.virtual_memory().total // MEBIBYTE * MEBIBYTE * 1000,
        GPU: count_gpus() * 1000,
        AGENTS: AGENTS_MAX * 1000,
    }
    reserved = {CPU: RESERVED_CPU, MEMORY: RESERVED_MEMORY}
    total = {**measured, **declared}
    allocatable = {
        name: amount if name in declared else max(0, amount - reserved.get(name, 0)) for name, amount in total.items()
    }
    return Capacity(total, allocatable)


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_gpus() -> int:
    """NVIDIA devices that the driver shows; 0 without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0
    finally:
        pynvml.nvmlShutdown()


def amounts(values: Mapping[str, int]) -> dict[str, str]:
    """As quantities in an object: `{"cpu": "1900m", "memory": "4Gi"}`."""
    return {
        name: format_binary(amount) if name == MEMORY else format_decimal(amount) for name, amount in values.items()
    }
