"""Agents as API objects: instances of the directory. Read only; nothing of it is stored."""

from __future__ import annotations

from typing import Any

from choregos.api.projections.identity import metadata, time
from choregos.resources import meta
from choregos.resources.kind import Object
from choregos.store.instance import Instance
from choregos.wire.instances import AgentRecord, StatusRecord


def agent(instance: Instance) -> Object:
    """The Agent object of an instance."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "Agent",
        "metadata": metadata(instance),
        "spec": _spec(instance),
        "status": _status(instance),
    }


def _spec(instance: Instance) -> Object:
    template = instance.template
    spec: Object = {
        "set": instance.record.agent_set,
        "template": template.name,
        "templateDigest": template.digest,
        "region": instance.group.region,
        "capabilities": list(instance.capabilities),
        "isolation": template.spec.get("isolation", "shared"),
    }
    if instance.record.node:
        spec["node"] = instance.record.node
    cluster = instance.labels.get(meta.CLUSTER_LABEL)
    if cluster:
        spec["cluster"] = cluster
    for part in ("runtime", "resources"):
        if part in template.spec:
            spec[part] = template.spec[part]
    return spec


def _status(instance: Instance) -> Object:
    record, status = instance.record, instance.status
    shown: Object = {
        "phase": instance.phase.value,
        "ready": instance.ready,
        "restarts": 0 if status is None else status.restarts,
        "conditions": [_scheduled(record), _ready(instance)],
    }
    if status is None:
        reason, message = record.reason, record.message
    else:
        reason, message = status.reason, status.message
        shown["startTime"] = time(status.since_ms)
        if status.host:
            shown["host"] = status.host
    if reason:
        shown["reason"] = reason
    if message:
        shown["message"] = message
    return shown


def _scheduled(record: AgentRecord) -> dict[str, Any]:
    bound = bool(record.node)
    return {
        "type": "Scheduled",
        "status": meta.TRUE if bound else meta.FALSE,
        "reason": "Bound" if bound else record.reason or "Unscheduled",
        "message": "" if bound else record.message,
        "lastTransitionTime": time(record.created_ms),
    }


def _ready(instance: Instance) -> dict[str, Any]:
    status: StatusRecord | None = instance.status
    since_ms = instance.record.created_ms if status is None else status.since_ms
    return {
        "type": "Ready",
        "status": meta.TRUE if instance.ready else meta.FALSE,
        "reason": (status.reason if status is not None else "") or instance.phase.value,
        "message": "" if status is None else status.message,
        "lastTransitionTime": time(since_ms),
    }
