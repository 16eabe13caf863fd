"""AgentNodes as core/v1 Nodes, and a written Node back as the AgentNode it stands for.

The metadata is the AgentNode's own: a label of one is a label of the other, and the resourceVersion too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from choregos.api.projections.pods import GPU
from choregos.api.rules.status import bad_request
from choregos.foundation.errors import FieldError, Invalid
from choregos.resources.kind import Object, ReadOnlyObject

_RESOURCES = {"cpu": "cpu", "memory": "memory", "agents": "pods", "gpu": GPU}
_CONDITION_PARTS = ("type", "status", "reason", "message", "lastTransitionTime")
_WRITABLE = ("unschedulable", "taints")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture(machine: str) -> str:
    """A kind of processor, as Go and so Kubernetes calls it: `amd64` for `x86_64`."""
    return _ARCHITECTURES.get(machine, machine)


def node(agent_node: ReadOnlyObject) -> Object:
    """The Node of an AgentNode."""
    spec = agent_node.get("spec") or {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": agent_node["metadata"],
        "spec": {name: spec[name] for name in _WRITABLE if spec.get(name)},
        "status": _status(agent_node.get("status") or {}),
    }


def written(agent_node: Object, body: Any) -> Object:
    """`agent_node` as a client wants it who has seen its Node and sent `body` instead.

    Its status is left alone, whatever the body says of it, as in Kubernetes.

    Raises:
        Refusal: 400, it is no Node.
        Invalid: it says what an AgentNode has no place for.
    """
    if not isinstance(body, dict) or not all(isinstance(body.get(part, {}), dict) for part in ("metadata", "spec")):
        raise bad_request("the result is no object with metadata and spec")
    if (body.get("apiVersion", "v1"), body.get("kind", "Node")) != ("v1", "Node"):
        raise bad_request(f"the data is a {body.get('kind')} of {body.get('apiVersion')}, expected a Node of v1")
    wanted = {name: value for name, value in (body.get("spec") or {}).items() if value is not None}
    foreign = sorted(wanted.keys() - set(_WRITABLE))
    if foreign:
        message = "cannot be set: of a Node only metadata, spec.unschedulable and spec.taints can be written"
        raise Invalid("Node", tuple(FieldError(f"spec.{name}", message, "FieldValueForbidden") for name in foreign))
    kept = {name: value for name, value in agent_node["spec"].items() if name not in _WRITABLE}
    return {**agent_node, "metadata": body.get("metadata") or {}, "spec": {**kept, **wanted}}


def _status(status: Mapping[str, Any]) -> Object:
    information = status.get("nodeInfo") or {}
    shown: Object = {
        "conditions": [_condition(condition) for condition in status.get("conditions") or ()],
        "nodeInfo": _information(information),
    }
    if information.get("hostname"):
        shown["addresses"] = [{"type": "Hostname", "address": information["hostname"]}]
    for part in ("capacity", "allocatable"):
        if status.get(part):
            shown[part] = {_RESOURCES.get(name, name): amount for name, amount in status[part].items()}
    return shown


def _condition(condition: Mapping[str, Any]) -> Object:
    """`v1.NodeCondition`. The region judges a node when that changes, so then it has last been heard of as well."""
    shown = {name: condition[name] for name in _CONDITION_PARTS if condition.get(name)}
    judged = shown.get("lastTransitionTime")
    return {**shown, "lastHeartbeatTime": judged} if judged else shown


def _information(information: Mapping[str, Any]) -> Object:
    """`v1.NodeSystemInfo`, whose fields are all required; those that nobody knows are empty."""
    machine = information.get("architecture", "")
    python = information.get("pythonVersion")
    return {
        "architecture": architecture(machine),
        "bootID": information.get("bootID", ""),
        "containerRuntimeVersion": f"python://{python}" if python else "",
        "kernelVersion": information.get("kernelVersion", ""),
        "kubeProxyVersion": "",
        "kubeletVersion": information.get("choregosVersion", ""),
        "machineID": "",
        "operatingSystem": information.get("operatingSystem", ""),
        "osImage": information.get("osImage", ""),
        "systemUUID": "",
    }
