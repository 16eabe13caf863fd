"""Agents as API objects: instances of the directory, projected on demand. Read only; nothing of it is stored.

Only what a client is shown is projected: a selector on labels or names, a snapshot and a page work on instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from choregos.api.rules.pages import Snapshot, Snapshots
from choregos.api.sources import Event
from choregos.foundation.timestamp import rfc3339
from choregos.resources import meta
from choregos.resources.kind import Kind, Object
from choregos.store.directory import Directory
from choregos.store.instance import Instance, InstanceChange
from choregos.store.watch import Watch
from choregos.wire.instances import AgentRecord, StatusRecord


class AgentSource:
    """Reads of agents from one region's directory."""

    def __init__(self, directory: Directory, kind: Kind) -> None:
        self.kind = kind
        self._directory = directory
        self._snapshots: Snapshots[Instance] = Snapshots()

    @property
    def revision(self) -> int:
        return self._directory.revision

    async def wait_for(self, revision: int, timeout_s: float) -> None:
        await self._directory.wait_for(revision, timeout_s)

    def get(self, namespace: str, name: str) -> Instance:
        return self._directory.get(namespace, name)

    def snapshot(self, namespace: str) -> Snapshot[Instance]:
        return self._snapshots.at(namespace, self.revision, lambda: self._take(namespace))

    def _take(self, namespace: str) -> Snapshot[Instance]:
        instances = self._directory.list(namespace)
        return Snapshot(self.revision, [instance.key for instance in instances], instances)

    def snapshot_of(self, namespace: str, revision: int) -> Snapshot[Instance] | None:
        return self._snapshots.held(namespace, revision)

    def document(self, item: Instance) -> Object:
        return agent(item)

    def labels(self, item: Instance) -> Mapping[str, str]:
        return item.labels

    def name(self, item: Instance) -> str:
        return item.name

    def watch(self, namespace: str, since: int) -> Watch[InstanceChange]:
        return self._directory.watch(namespace, since=since)

    def event(self, change: InstanceChange) -> Event[Instance]:
        return Event(change.type.value, change.instance, change.previous, change.revision)


def agent(instance: Instance) -> Object:
    """The Agent object of an instance; its resourceVersion is the sequence of its newest record."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "Agent",
        "metadata": _metadata(instance),
        "spec": _spec(instance),
        "status": _status(instance),
    }


def _metadata(instance: Instance) -> Object:
    record = instance.record
    metadata: Object = {
        "name": instance.name,
        "namespace": instance.namespace,
        "uid": record.uid,
        "resourceVersion": str(instance.revision),
        "creationTimestamp": _time(record.created_ms // 1000),
        "labels": instance.labels,
        "ownerReferences": [
            {
                "apiVersion": meta.API_VERSION,
                "kind": "AgentSet",
                "name": record.agent_set,
                "uid": record.agent_set_uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    if record.deletion_ms:
        metadata["deletionTimestamp"] = _time(record.deletion_ms // 1000)
        metadata["deletionGracePeriodSeconds"] = record.grace_s
    return metadata


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
        shown["startTime"] = _time(status.since_ms // 1000)
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
        "lastTransitionTime": _time(record.created_ms // 1000),
    }


def _ready(instance: Instance) -> dict[str, Any]:
    status: StatusRecord | None = instance.status
    since_ms = instance.record.created_ms if status is None else status.since_ms
    return {
        "type": "Ready",
        "status": meta.TRUE if instance.ready else meta.FALSE,
        "reason": (status.reason if status is not None else "") or instance.phase.value,
        "message": "" if status is None else status.message,
        "lastTransitionTime": _time(since_ms // 1000),
    }


@lru_cache(maxsize=4096)
def _time(wall_s: int) -> str:
    # Agents are made by the thousand in the same second.
    return rfc3339(wall_s * 1000)
