"""Pod (core/v1): an agent as clients of Kubernetes know it. Read and delete only; its AgentSet makes and replaces it.

An agent is shown as a Pod with one container, which is called `agent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from choregos.resources.columns import AGE, NAME, path, since
from choregos.resources.kind import Column, Kind, ReadOnlyObject, Subresource
from choregos.resources.kinds.parts import Condition, Count, FreeForm, Labels, Part, Qualified, Quantity, Resource, Time
from choregos.resources.kinds.template import Toleration

CONTAINER = "agent"
"""Name of the one container."""


class EnvironmentVariable(Part):
    """A variable that the agent has in `self.env`."""

    name: str
    """Name of the variable."""
    value: str = ""
    """Its value."""


class ContainerResources(Part):
    """What the agent needs of its node."""

    requests: dict[Qualified, Quantity] | None = None
    """`cpu`, `memory`, and `choregos.dev/gpu` if it asked for one."""


class Container(Part):
    """The agent's code and needs."""

    name: str
    """Always `agent`."""
    image: str
    """Where the code is: `python: module:Class`, or the name of an entry point."""
    env: list[EnvironmentVariable] | None = None
    """Variables of the template."""
    resources: ContainerResources | None = None
    """What the agent needs of its node."""


class PodSpec(Part):
    """What the agent is and where it shall run."""

    containers: list[Container]
    """One: the agent."""
    node_name: str | None = None
    """Node it is bound to; absent while none has room."""
    node_selector: Labels | None = None
    """Labels its node must have."""
    tolerations: list[Toleration] | None = None
    """Taints that do not keep it away."""
    restart_policy: str = "Always"
    """An agent that fails is started again, later each time."""
    scheduler_name: str = ""
    """The region's scheduler."""
    security_context: FreeForm = Field(default_factory=dict)
    """Empty: an agent runs as the user of its worker."""
    termination_grace_period_seconds: Count = 30
    """Seconds it may take to finish its calls."""


class Waiting(Part):
    """It does not run."""

    reason: str = ""
    """Why, as one CamelCase word: `ImportFailed`, `Starting`."""
    message: str = ""
    """Why, for people."""


class Running(Part):
    """It runs."""

    started_at: Time | None = None
    """Since when it has been running in this state of readiness."""


class Terminated(Part):
    """It has ended."""

    exit_code: int = 0
    """0: it was asked to end. 1: it failed."""
    reason: str = ""
    """Why, as one CamelCase word."""
    message: str = ""
    """Why, for people; may hold a traceback."""
    finished_at: Time | None = None
    """When."""
    container_id: Annotated[str, Field(alias="containerID")] = ""
    """Worker process it was in."""


class ContainerState(Part):
    """One of three."""

    waiting: Waiting | None = None
    """It does not run."""
    running: Running | None = None
    """It runs."""
    terminated: Terminated | None = None
    """It has ended."""


class ContainerStatus(Part):
    """How the agent is."""

    name: str
    """Always `agent`."""
    state: ContainerState
    """Whether it runs."""
    last_state: ContainerState | None = None
    """How it ended when it last failed, while it waits to be started again."""
    ready: bool = False
    """Whether it takes calls."""
    started: bool = False
    """Whether it has started."""
    restart_count: Count = 0
    """Times it was started again after it had failed or lost its worker."""
    image: str = ""
    """Where the code is."""
    image_id: Annotated[str, Field(alias="imageID")] = ""
    """Digest of its template."""
    container_id: Annotated[str, Field(alias="containerID")] = ""
    """Worker process it runs in; empty while in none."""


class PodStatus(Part):
    """How the agent is."""

    phase: str = "Pending"
    """`Pending` (it has not started yet), `Running` (it has; it may be between two starts) or `Succeeded`."""
    conditions: list[Condition] = Field(default_factory=list)
    """`PodScheduled`: a node has room for it. `Ready`, `ContainersReady`: it takes calls. `Initialized`: as
    `PodScheduled`."""
    container_statuses: list[ContainerStatus] | None = None
    """Of the one container; absent while no node has room."""
    start_time: Time | None = None
    """When it was created."""
    qos_class: str = "Burstable"
    """Requests are kept, limits are not set."""
    reason: str | None = None
    """Why its node refuses it, as one CamelCase word."""
    message: str | None = None
    """Why it is pending, for people."""


class Pod(Resource):
    """An agent, as Kubernetes shows what runs. Read only: the AgentSet that owns it makes and replaces it, and the
    object with all there is to say of it is the Agent of the same name."""

    spec: PodSpec
    """What the agent is and where it shall run."""
    status: PodStatus = Field(default_factory=PodStatus)
    """How the agent is."""


def _container(obj: ReadOnlyObject) -> dict[str, Any]:
    statuses: Sequence[dict[str, Any]] = (obj.get("status") or {}).get("containerStatuses") or ({},)
    return statuses[0]


def _ready(obj: ReadOnlyObject, now_ms: int) -> str:
    return f"{int(bool(_container(obj).get('ready')))}/1"


def _status(obj: ReadOnlyObject, now_ms: int) -> str:
    """As kubectl's own: what goes wrong, if something does, else the phase."""
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = obj.get("status") or {}
    state = _container(obj).get("state") or {}
    for kind in ("waiting", "terminated"):
        if (state.get(kind) or {}).get("reason"):
            return str(state[kind]["reason"])
    return str(status.get("reason") or status.get("phase") or "Pending")


def _restarts(obj: ReadOnlyObject, now_ms: int) -> str:
    container = _container(obj)
    count = str(container.get("restartCount", 0))
    ended = (container.get("lastState") or {}).get("terminated")
    return f"{count} ({since('finishedAt')(ended, now_ms)} ago)" if ended else count


def _none(obj: ReadOnlyObject, now_ms: int) -> str:
    return "<none>"


POD = Kind(
    group="",
    version="v1",
    kind="Pod",
    plural="pods",
    singular="pod",
    namespaced=True,
    model=Pod,
    short_names=("po",),
    verbs=frozenset({"get", "list", "watch", "delete", "deletecollection"}),
    has_status=False,
    plane="pod",
    instead="a Pod is an Agent that its AgentSet has made; change or scale the AgentCluster or AgentSet that owns it",
    columns=(
        NAME,
        Column("Ready", _ready, description="Whether it takes calls, of one."),
        Column("Status", _status, description="What goes wrong with it, else its phase."),
        Column("Restarts", _restarts, description="Times it was started again, and when it last failed."),
        AGE,
        Column("IP", _none, wide=True, description="Agents have none: they are reached over the bus."),
        Column("Node", path("spec", "nodeName", default="<none>"), wide=True, description="Node it is bound to."),
        Column("Nominated Node", _none, wide=True, description="Nobody is moved away to make room."),
        Column("Readiness Gates", _none, wide=True, description="Agents have none."),
    ),
    subresources=(
        Subresource("eviction", ("policy", "v1", "Eviction"), ("create",)),
        Subresource("exec", ("", "v1", "PodExecOptions"), ("create", "get")),
        Subresource("log", ("", "v1", "Pod"), ("get",)),
        Subresource("portforward", ("", "v1", "PodPortForwardOptions"), ("create", "get")),
        Subresource("status", ("", "v1", "Pod"), ("get",)),
    ),
    selectable={
        "spec.hostNetwork": "false",
        "spec.serviceAccountName": "",
        "status.nominatedNodeName": "",
        "status.podIP": "",
        "status.podIPs": "",
    },
)
