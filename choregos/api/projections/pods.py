"""Agents as core/v1 Pods with one container.

| the agent is | phase | the container is |
|---|---|---|
| without a node | Pending | not there |
| Pending, Starting | Pending; Running if it has failed before | waiting |
| BackOff | Running: it is between two starts | waiting, for the reason it failed |
| Running, Stopping | Running | running |
| Stopped on request | Succeeded | terminated |
| Rejected | Pending: it gets another node | waiting |

An agent has no address of its own: it is reached over the bus, by its name. So a Pod shows no IP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from choregos.api.projections.identity import metadata, time
from choregos.resources import meta
from choregos.resources.kind import Object
from choregos.resources.kinds.projected.pod import CONTAINER
from choregos.resources.templates import grace_s
from choregos.store.instance import Instance, Template
from choregos.wire.instances import Phase, StatusRecord

GPU = f"{meta.GROUP}/gpu"
SCHEDULER = "choregos"
ASSIGNED = "Assigned"
"""Why an agent waits of which its node has said nothing yet."""


def pod(instance: Instance) -> Object:
    """The Pod of an agent."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(instance),
        "spec": _spec(instance),
        "status": _status(instance),
    }


def phase(instance: Instance) -> str:
    """`status.phase`."""
    status = instance.status
    if status is None or status.phase in (Phase.PENDING, Phase.REJECTED):
        return "Pending"
    if status.phase is Phase.STOPPED:
        return "Succeeded" if instance.record.deletion_ms else "Pending"
    if status.phase is Phase.STARTING and not status.restarts:
        return "Pending"
    return "Running"


FIELDS: Mapping[str, Callable[[Instance], str]] = MappingProxyType(
    {
        "metadata.namespace": lambda one: one.namespace,
        "spec.nodeName": lambda one: one.record.node,
        "status.phase": phase,
        "status.podIP": lambda one: "",
    }
)
"""The fields that clients select by, without making a Pod."""


def image(template: Template) -> str:
    """Where a template's code is: what it says, or the entry point of its name."""
    runtime = template.spec.get("runtime") or {}
    return f"python: {runtime['python']}" if runtime.get("python") else f"entry point: {template.name}"


def _spec(instance: Instance) -> Object:
    template = instance.template
    placement = template.spec.get("placement") or {}
    spec: Object = {
        "containers": [_container(template)],
        "restartPolicy": "Always",
        "schedulerName": SCHEDULER,
        # Every API server gives one; kubectl 1.37 reads it without looking whether it is there.
        "securityContext": {},
        "terminationGracePeriodSeconds": grace_s(template.spec),
    }
    if instance.record.node:
        spec["nodeName"] = instance.record.node
    for part in ("nodeSelector", "tolerations"):
        if placement.get(part):
            spec[part] = placement[part]
    return spec


def _container(template: Template) -> Object:
    container: Object = {"name": CONTAINER, "image": image(template), "resources": {}}
    asked = template.spec.get("resources") or {}
    requests = {name: asked[name] for name in ("cpu", "memory") if asked.get(name)}
    if asked.get("gpu", "0") != "0":
        requests[GPU] = asked["gpu"]
    if requests:
        container["resources"] = {"requests": requests}
    env = template.spec.get("env")
    if env:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(env.items())]
    return container


def _status(instance: Instance) -> Object:
    record, status = instance.record, instance.status
    shown: Object = {
        "phase": phase(instance),
        "conditions": _conditions(instance),
        "startTime": time(record.created_ms),
        "qosClass": "Burstable",
    }
    if record.node:
        shown["containerStatuses"] = [_container_status(instance)]
    if status is not None and status.phase is Phase.REJECTED:
        shown["reason"] = status.reason
    message = record.message if status is None else status.message
    if message and shown["phase"] == "Pending":
        # `kubectl describe` shows no message of a condition or of a container that waits.
        shown["message"] = message
    return shown


def _conditions(instance: Instance) -> list[Object]:
    record, status = instance.record, instance.status
    created = time(record.created_ms)
    since = created if status is None else time(status.since_ms)
    unbound = None if record.node else (record.reason or "Unschedulable", record.message)
    unready = unbound or _why_unready(instance)
    return [
        _condition("PodScheduled", unbound, created),
        _condition("Initialized", unbound, created),
        _condition("ContainersReady", unready, since),
        _condition("Ready", unready, since),
    ]


def _why_unready(instance: Instance) -> tuple[str, str] | None:
    """Reason and message; None if it takes calls."""
    status = instance.status
    if instance.ready:
        return None
    return ("ContainersNotReady", "") if status is None else (status.reason or status.phase.value, status.message)


def _condition(type: str, why_not: tuple[str, str] | None, since: str) -> Object:
    if why_not is None:
        return {"type": type, "status": meta.TRUE, "lastTransitionTime": since}
    reason, message = why_not
    shown = {"type": type, "status": meta.FALSE, "reason": reason, "lastTransitionTime": since}
    return {**shown, "message": message} if message else shown


def _container_status(instance: Instance) -> Object:
    template, status = instance.template, instance.status
    shown: Object = {
        "name": CONTAINER,
        "state": _state(status),
        "ready": instance.ready,
        "started": status is not None and status.phase in (Phase.RUNNING, Phase.STOPPING),
        "restartCount": 0 if status is None else status.restarts,
        "image": image(template),
        "imageID": f"template: {template.digest}",
    }
    if status is not None and status.host:
        shown["containerID"] = f"choregos://{status.host}"
    if status is not None and status.phase is Phase.BACKOFF:
        shown["lastState"] = {"terminated": _ended(status, 1)}
    return shown


def _state(status: StatusRecord | None) -> Object:
    if status is None:
        return {"waiting": {"reason": ASSIGNED}}
    match status.phase:
        case Phase.RUNNING | Phase.STOPPING:
            return {"running": {"startedAt": time(status.since_ms)}}
        case Phase.STOPPED:
            return {"terminated": _ended(status, 0)}
    waiting: dict[str, Any] = {"reason": status.reason or status.phase.value}
    if status.message:
        waiting["message"] = status.message
    return {"waiting": waiting}


def _ended(status: StatusRecord, exit_code: int) -> Object:
    ended: Object = {"exitCode": exit_code, "reason": status.reason, "finishedAt": time(status.since_ms)}
    if status.message:
        ended["message"] = status.message
    return ended
