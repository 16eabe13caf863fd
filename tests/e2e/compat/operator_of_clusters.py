"""An operator written with kopf, for AgentClusters, AgentSets and Pods; writes what it handles to the file in NOTES.

Run by `kopf run`, as its users do.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import kopf

NOTES = Path(os.environ["NOTES"])
FINALIZER = "example.org/operator"


def note(what: str, name: str, **more: Any) -> None:
    with NOTES.open("a", encoding="utf-8") as notes:
        notes.write(json.dumps({"what": what, "name": name, **more}) + "\n")


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.persistence.finalizer = FINALIZER
    settings.networking.error_backoffs = [0.1]


@kopf.on.create("choregos.dev", "v1", "agentclusters")
def cluster_created(name: str, spec: kopf.Spec, body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    patch.metadata.annotations["example.org/size"] = str(sum(entry["replicas"] for entry in spec["agents"]))
    kopf.event(body, type="Normal", reason="OperatorSaw", message=f"{name} was made")
    note("created", name)


@kopf.on.resume("agentclusters.choregos.dev")
def cluster_resumed(name: str, **_: Any) -> None:
    note("resumed", name)


@kopf.on.update("agentclusters.choregos.dev", field="spec.agents")
def cluster_updated(name: str, old: Any, new: Any, **_: Any) -> None:
    note("updated", name, replicas=[old[0]["replicas"], new[0]["replicas"]])


@kopf.on.delete("agentclusters.choregos.dev")
def cluster_deleted(name: str, retry: int, **_: Any) -> None:
    if not retry:
        raise kopf.TemporaryError("not yet", delay=0.1)
    note("deleted", name)


@kopf.on.create("agentsets")
def set_created(name: str, patch: kopf.Patch, **_: Any) -> None:
    patch.metadata.labels["example.org/seen"] = "yes"
    note("set created", name)


@kopf.on.delete("agentsets")
def set_deleted(name: str, **_: Any) -> None:
    note("set deleted", name)


@kopf.on.event("pods", labels={"choregos.dev/cluster": kopf.PRESENT})
def pod_event(type: str | None, name: str, status: kopf.Status, **_: Any) -> None:
    # What there is already when the operator starts has no type.
    note("pod gone" if type == "DELETED" else "pod", name, phase=status.get("phase"))
