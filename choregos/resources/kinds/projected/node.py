"""Node (core/v1): an AgentNode as clients of Kubernetes know it. What is written to it is written to the AgentNode."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from choregos.resources.columns import AGE, NAME, path
from choregos.resources.kind import Column, Kind, ReadOnlyObject, Subresource
from choregos.resources.kinds.agentnode import Taint, readiness
from choregos.resources.kinds.parts import Condition, Part, Qualified, Quantity, Resource, Time

ROLE_LABEL = "node-role.kubernetes.io/"
"""Prefix of the labels whose rest is printed as a role."""


class NodeSpec(Part):
    """How the node shall be used. All of it can be written."""

    unschedulable: bool | None = None
    """True: no new agents are placed here; those that are here stay."""
    taints: list[Taint] | None = Field(default=None, max_length=64)
    """Marks that keep agents away."""


class NodeAddress(Part):
    """A name of the machine."""

    type: str
    """Always `Hostname`."""
    address: str
    """The name."""


class NodeSystemInfo(Part):
    """The machine and the software on it."""

    architecture: str = ""
    """Kind of processor: `amd64`, `arm64`."""
    boot_id: Annotated[str, Field(alias="bootID")] = ""
    """Unique per start of the node's process."""
    container_runtime_version: str = ""
    """What runs the agents: `python://3.12.4`."""
    kernel_version: str = ""
    """Release of the kernel."""
    kube_proxy_version: str = ""
    """Empty: there is none."""
    kubelet_version: str = ""
    """Version of choregos."""
    machine_id: Annotated[str, Field(alias="machineID")] = ""
    """Empty: nobody asks the machine."""
    operating_system: str = ""
    """`linux` or `darwin`."""
    os_image: str = ""
    """Name and version of the operating system."""
    system_uuid: Annotated[str, Field(alias="systemUUID")] = ""
    """Empty: nobody asks the machine."""


class NodeCondition(Condition):
    """One aspect of the state of a node."""

    last_heartbeat_time: Time | None = None
    """When it was last judged: when the node was new, fell silent or was heard of again. In between, its lease says
    that it is alive."""


class NodeStatus(Part):
    """What the node has and how it is."""

    addresses: list[NodeAddress] = Field(default_factory=list)
    """The machine's host name."""
    allocatable: dict[Qualified, Quantity] | None = None
    """What of its capacity agents may use."""
    capacity: dict[Qualified, Quantity] | None = None
    """What the node has: `cpu`, `memory`, `choregos.dev/gpu`, and `pods`, the most agents it takes."""
    conditions: list[NodeCondition] = Field(default_factory=list)
    """`Ready`: the node is alive and takes agents."""
    node_info: NodeSystemInfo | None = None
    """The machine and the software on it."""


class Node(Resource):
    """One machine that runs agents, as Kubernetes shows it. The same object as the AgentNode of this name: labels,
    annotations, `spec.unschedulable` and `spec.taints` can be written here too."""

    spec: NodeSpec = Field(default_factory=NodeSpec)
    """How the node shall be used."""
    status: NodeStatus = Field(default_factory=NodeStatus)
    """What the node has and how it is."""


def _roles(obj: ReadOnlyObject, now_ms: int) -> str:
    labels = obj["metadata"].get("labels") or {}
    roles = sorted(key.removeprefix(ROLE_LABEL) for key in labels if key.startswith(ROLE_LABEL))
    return ",".join(filter(None, roles)) or "<none>"


def _information(key: str, name: str, description: str, *, wide: bool = True) -> Column:
    return Column(name, path("status", "nodeInfo", key, default="<unknown>"), wide=wide, description=description)


def _none(obj: ReadOnlyObject, now_ms: int) -> str:
    return "<none>"


NODE = Kind(
    group="",
    version="v1",
    kind="Node",
    plural="nodes",
    singular="node",
    namespaced=False,
    model=Node,
    short_names=("no",),
    verbs=frozenset({"get", "list", "watch", "update", "patch"}),
    has_status=False,
    plane="node",
    instead="a Node is an AgentNode, which its machine makes; delete the AgentNode of this name to forget a lost one",
    columns=(
        NAME,
        Column("Status", readiness, description="Whether the node is alive, and whether it takes new agents."),
        Column("Roles", _roles, description=f"From labels that begin with {ROLE_LABEL}."),
        AGE,
        _information("kubeletVersion", "Version", "Version of choregos.", wide=False),
        Column("Internal-IP", _none, wide=True, description="Agents are reached over the bus, not by an address."),
        Column("External-IP", _none, wide=True, description="As Internal-IP."),
        _information("osImage", "OS-Image", "Operating system."),
        _information("kernelVersion", "Kernel-Version", "Release of the kernel."),
        _information("containerRuntimeVersion", "Container-Runtime", "What runs the agents."),
    ),
    subresources=(Subresource("status", ("", "v1", "Node"), ("get",)),),
    selectable={"spec.unschedulable": "false"},
)
