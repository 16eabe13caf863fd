"""AgentNode: one machine that runs agents. Made by the node's own process, which also writes its status."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from choregos.resources.columns import AGE, NAME, path
from choregos.resources.kind import Column, Kind, ReadOnlyObject
from choregos.resources.kinds.parts import (
    Conditions,
    Count,
    LabelValue,
    Part,
    Qualified,
    Quantity,
    Resource,
    Time,
    Word,
)
from choregos.resources.meta import GROUP, LOCAL_REGION, condition
from choregos.resources.rules.rule import ruled, unchangeable


class Taint(Part):
    """A mark that keeps agents away that do not tolerate it."""

    key: Qualified
    """Key of the taint."""
    value: LabelValue | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    """`NoSchedule`: no new agents. `PreferNoSchedule`: none if there is another node. `NoExecute`: those that are
    there leave as well."""
    time_added: Time | None = None
    """When a `NoExecute` taint was added."""


class AgentNodeSpec(Part):
    """How the node shall be used."""

    model_config = ConfigDict(json_schema_extra=ruled(unchangeable("region")))

    region: Word = LOCAL_REGION
    """Region the node belongs to. Cannot be changed."""
    unschedulable: bool | None = None
    """True: no new agents are placed here; those that are here stay."""
    taints: list[Taint] | None = Field(default=None, max_length=64)
    """Marks that keep agents away."""


class NodeInfo(Part):
    """The machine and the software on it."""

    hostname: str = ""
    """Host name of the machine."""
    pid: Count = 0
    """Process id of the node's process."""
    cores: Count = 0
    """Processor cores the node found."""
    architecture: str = ""
    """Kind of processor, as the system names it: `x86_64`, `aarch64`."""
    operating_system: str = ""
    """`linux` or `darwin`."""
    os_image: str = ""
    """Name and version of the operating system."""
    kernel_version: str = ""
    """Release of the kernel."""
    python_version: str = ""
    """Version of Python."""
    choregos_version: str = ""
    """Version of choregos."""
    boot_id: Annotated[str, Field(alias="bootID")] = ""
    """Unique per start of the node's process."""


class AgentNodeStatus(Part):
    """What the node has and how it is."""

    capacity: dict[Word, Quantity] | None = None
    """What the node has: `cpu`, `memory`, `gpu`, and `agents`, the most agents it takes."""
    allocatable: dict[Word, Quantity] | None = None
    """What of its capacity agents may use."""
    allocated: dict[Word, Quantity] | None = None
    """What the agents here have asked for."""
    agents: Count = 0
    """Agents bound to the node."""
    node_info: NodeInfo | None = None
    """The machine and the software on it."""
    observed_generation: Count = 0
    """The metadata.generation this status speaks of."""
    conditions: Conditions = Field(default_factory=list)
    """`Ready`: the node is alive and takes agents."""


class AgentNode(Resource):
    """One machine that runs agents."""

    spec: AgentNodeSpec = Field(default_factory=AgentNodeSpec)
    """How the node shall be used."""
    status: AgentNodeStatus = Field(default_factory=AgentNodeStatus)
    """What the node has and how it is. Written by the node."""


def readiness(obj: ReadOnlyObject, now_ms: int) -> str:
    """`Ready` or `NotReady`, and whether it is cordoned."""
    ready = condition(obj, "Ready")
    word = "Ready" if ready is not None and ready.get("status") == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if (obj.get("spec") or {}).get("unschedulable") else word


def _amount(resource: str) -> Column:
    """`used/allocatable` if the node says what is used, else what is allocatable."""

    def cell(obj: ReadOnlyObject, now_ms: int) -> str:
        status = obj.get("status") or {}
        whole = (status.get("allocatable") or status.get("capacity") or {}).get(resource)
        if whole is None:
            return ""
        used = (status.get("allocated") or {}).get(resource)
        return str(whole) if used is None else f"{used}/{whole}"

    return Column(resource.upper() if resource != "memory" else "Memory", cell, description=f"{resource}, used of all.")


AGENTNODE = Kind(
    group=GROUP,
    version="v1",
    kind="AgentNode",
    plural="agentnodes",
    singular="agentnode",
    namespaced=False,
    model=AgentNode,
    short_names=("an",),
    categories=("choregos",),
    selectable={"spec.unschedulable": "false"},
    columns=(
        NAME,
        Column("Status", readiness, description="Whether the node is alive, and whether it takes new agents."),
        Column("Agents", path("status", "agents", default=0), type="integer", description="Agents bound to the node."),
        _amount("cpu"),
        _amount("memory"),
        _amount("gpu"),
        Column("Region", path("spec", "region"), description="Region the node belongs to."),
        AGE,
        Column("Version", path("status", "nodeInfo", "choregosVersion"), wide=True, description="Version of choregos."),
        Column("Host-Name", path("status", "nodeInfo", "hostname"), wide=True, description="Host name of the machine."),
    ),
)
