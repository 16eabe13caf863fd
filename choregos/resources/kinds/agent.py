"""Agent: one instance, as the directory shows it. Read and delete only; its set makes and replaces it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from choregos.resources.columns import AGE, NAME, joined, path
from choregos.resources.kind import Column, Kind, ReadOnlyObject, Subresource
from choregos.resources.kinds.parts import Conditions, Count, Part, Resource, Time
from choregos.resources.kinds.template import Resources, Runtime
from choregos.resources.meta import GROUP


class AgentSpec(Part):
    """What the agent is and where it shall run."""

    set: str
    """Name of the AgentSet it belongs to."""
    cluster: str | None = None
    """Name of the AgentCluster it belongs to."""
    template: str = ""
    """Name of its template."""
    template_digest: str = ""
    """Digest of its template; differs from the set's while a replacement is under way."""
    node: str | None = None
    """Name of the AgentNode it is bound to; absent while none has room."""
    region: str = ""
    """Region it runs in."""
    runtime: Runtime | None = None
    """Where its code is."""
    resources: Resources | None = None
    """What it needs of its node."""
    capabilities: list[str] | None = None
    """What it can do: as its template declares, else as its class does."""
    isolation: Literal["shared", "dedicated"] = "shared"
    """Whether it has a worker process of its own."""


class AgentStatus(Part):
    """How the agent is."""

    phase: str = "Pending"
    """`Pending`, `Starting`, `Running`, `BackOff`, `Stopping`, `Stopped` or `Rejected`."""
    ready: bool = False
    """Whether it takes calls."""
    host: str | None = None
    """The worker process it runs in; absent while in none."""
    restarts: Count = 0
    """Times it was started again after it had failed or lost its worker."""
    start_time: Time | None = None
    """When its phase began."""
    reason: str | None = None
    """Why it is in this phase, as one CamelCase word."""
    message: str | None = None
    """Why it is in this phase, for people; may hold a traceback."""
    conditions: Conditions = Field(default_factory=list)
    """`Scheduled`: a node has room for it. `Ready`: it takes calls."""


class Agent(Resource):
    """One running agent. Its AgentSet makes it and replaces it; deleting one has it replaced by a new one."""

    spec: AgentSpec
    """What the agent is and where it shall run."""
    status: AgentStatus = Field(default_factory=AgentStatus)
    """How the agent is. Written by choregos."""


def _ready(obj: ReadOnlyObject, now_ms: int) -> str:
    return "True" if (obj.get("status") or {}).get("ready") else "False"


def _status(obj: ReadOnlyObject, now_ms: int) -> str:
    """The phase, or what went wrong, as the STATUS of a Pod."""
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status: dict[str, Any] = obj.get("status") or {}
    phase = str(status.get("phase") or "Pending")
    reason = str(status.get("reason") or "")
    if not reason or phase in {"Running", "Starting", "Stopped"}:
        return phase
    return f"{phase}/{reason}"


def _message(obj: ReadOnlyObject, now_ms: int) -> str:
    """The last line: of a traceback that is what was raised."""
    lines = str((obj.get("status") or {}).get("message") or "").strip().splitlines()
    return lines[-1] if lines else ""


AGENT = Kind(
    group=GROUP,
    version="v1",
    kind="Agent",
    plural="agents",
    singular="agent",
    namespaced=True,
    model=Agent,
    short_names=("ag",),
    categories=("all", "choregos"),
    verbs=frozenset({"get", "list", "watch", "delete", "deletecollection"}),
    has_status=False,
    plane="instance",
    columns=(
        NAME,
        Column("Ready", _ready, description="Whether it takes calls."),
        Column("Status", _status, description="Its phase, and why if that is not the usual one."),
        Column(
            "Restarts", path("status", "restarts", default=0), type="integer", description="Times it was started again."
        ),
        Column("Node", path("spec", "node", default="<none>"), description="AgentNode it is bound to."),
        AGE,
        Column("Host", path("status", "host", default="<none>"), wide=True, description="Worker process it runs in."),
        Column("Set", path("spec", "set"), wide=True, description="AgentSet it belongs to."),
        Column("Capabilities", joined("spec", "capabilities"), wide=True, description="What it can do."),
        Column("Template", path("spec", "templateDigest"), wide=True, description="Digest of its template."),
        Column(
            "Message", _message, wide=True, description="Why it is in its phase: the last line, which names an error."
        ),
    ),
    subresources=(
        Subresource("log", (GROUP, "v1", "Agent"), ("get",)),
        Subresource("portforward", ("", "v1", "PodPortForwardOptions"), ("create", "get")),
    ),
)
