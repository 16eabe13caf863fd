"""Measurements as PodMetrics and NodeMetrics (metrics.k8s.io/v1beta1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from choregos.api.node_ports import AgentUse, Use
from choregos.foundation.timestamp import rfc3339
from choregos.resources import meta
from choregos.resources.kind import Object
from choregos.resources.kinds.projected.metrics import GROUP, VERSION
from choregos.resources.kinds.projected.pod import CONTAINER
from choregos.store.instance import Instance

API_VERSION = f"{GROUP}/{VERSION}"
CPU_ANNOTATION = f"{meta.GROUP}/cpu-is"
MEMORY_ANNOTATION = f"{meta.GROUP}/memory-is"


def pod_metrics(instance: Instance, measured: AgentUse) -> Object:
    """What an agent uses; annotations say how that was found where it shares its worker."""
    annotations = {}
    if measured.agents > 1:
        shared = f"of worker {measured.worker}, which {measured.agents} agents share"
        part = "its part, by how long it handled calls," if measured.handling else "an even part, as all were idle,"
        annotations[CPU_ANNOTATION] = f"{part} {shared}"
        annotations[MEMORY_ANNOTATION] = f"an even part {shared}"
    metadata = {"name": instance.name, "namespace": instance.namespace, "labels": instance.labels}
    return {
        "apiVersion": API_VERSION,
        "kind": "PodMetrics",
        "metadata": _metadata(metadata, annotations, measured.use),
        **_window(measured.use),
        "containers": [{"name": CONTAINER, "usage": _usage(measured.use)}],
    }


def node_metrics(agent_node: Mapping[str, Any], use: Use) -> Object:
    """What is used of a node's machine."""
    metadata = {"name": agent_node["metadata"]["name"], "labels": agent_node["metadata"].get("labels") or {}}
    return {
        "apiVersion": API_VERSION,
        "kind": "NodeMetrics",
        "metadata": _metadata(metadata, {}, use),
        **_window(use),
        "usage": _usage(use),
    }


def _metadata(metadata: Object, annotations: Mapping[str, str], use: Use) -> Object:
    shown = {**metadata, "creationTimestamp": rfc3339(use.wall_ms)}
    return {**shown, "annotations": annotations} if annotations else shown


def _window(use: Use) -> Object:
    return {"timestamp": rfc3339(use.wall_ms), "window": f"{use.window_s:.3f}s"}


def _usage(use: Use) -> Object:
    """Cpu in thousandths of a core, rounded up so that who works is never shown as idle; memory in KiB."""
    return {"cpu": f"{math.ceil(use.cores * 1000)}m", "memory": f"{use.memory // 1024}Ki"}
