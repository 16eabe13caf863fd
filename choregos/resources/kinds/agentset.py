"""AgentSet: so many agents of one template in one region. Owned by an AgentCluster, or made by hand."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from choregos.resources.columns import AGE, NAME, condition_message, condition_reason, joined, path
from choregos.resources.kind import Column, Kind, ScalePaths
from choregos.resources.kinds.parts import (
    UNDOTTED_NAME,
    Conditions,
    Count,
    Part,
    Quantity,
    Replicas,
    Resource,
    Time,
    Word,
    name_length_max,
)
from choregos.resources.kinds.template import Deadline, HistoryLimit, Strategy, Template
from choregos.resources.meta import GROUP, LOCAL_REGION
from choregos.resources.names import SET_NAME_LENGTH_MAX
from choregos.resources.rules.rule import ruled, unchangeable


class AgentSetSpec(Part):
    """What agents there shall be."""

    model_config = ConfigDict(json_schema_extra=ruled(unchangeable("region"), unchangeable("cluster")))

    replicas: Replicas = 1
    """How many agents, 0 to 1,000,000; what `kubectl scale` changes. Default 1."""
    region: Word = LOCAL_REGION
    """Region the agents run in. Default `local`, a machine of its own. Cannot be changed."""
    cluster: Word | None = None
    """Name of the AgentCluster this set belongs to. Cannot be changed."""
    template: Template
    """What each agent is made from. A change replaces the agents one after another, as `strategy` says."""
    strategy: Strategy = Field(default_factory=Strategy)
    """How agents are replaced when the template changes."""
    progress_deadline_seconds: Deadline = 600
    """Seconds after which a rollout that gets no further is told to have failed. Default 600."""
    revision_history_limit: HistoryLimit = 10
    """How many earlier templates that no agent has any more are kept to go back to. Default 10."""
    paused: bool | None = None
    """While true a changed template replaces nobody; the number of agents is kept. Default false."""
    restarted_at: Time | None = None
    """When the agents were asked to start anew. A change replaces them as a changed template does, but is no revision.
    """


class AgentSetStatus(Part):
    """What agents there are."""

    replicas: Count = 0
    """Agents that exist and are not being removed."""
    ready_replicas: Count = 0
    """Agents that take calls."""
    updated_replicas: Count = 0
    """Agents made from the template as it is now."""
    available_replicas: Count = 0
    """Agents made from the template as it is now that take calls."""
    pending_replicas: Count = 0
    """Agents that no node has room for."""
    allocated: dict[Word, Quantity] = Field(default_factory=dict)
    """What its agents have asked for, of whatever template they are made: `agents`, `cpu`, `memory`, `gpu`. Agents
    that drain count until they are gone, and those without a node too."""
    selector: str = ""
    """Label selector of the agents, as text."""
    observed_generation: Count = 0
    """The metadata.generation this status speaks of."""
    template_digest: str = ""
    """Digest of the template as it is now, with the time of the last restart."""
    last_progress_time: Time | None = None
    """When the rollout that is under way last got further. Absent once it is complete."""
    conditions: Conditions = Field(default_factory=list)
    """`Ready`: every agent takes calls. `Progressing`: agents are being started, replaced or removed.
    `RegionReady`: the region has a leader that looks after this set."""


class AgentSet(Resource):
    """So many agents of one template in one region. Usually made by choregos from an AgentCluster."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            name_length_max(SET_NAME_LENGTH_MAX, "leave room for the number of an agent"),
            UNDOTTED_NAME,
        )
    )

    spec: AgentSetSpec
    """What agents there shall be."""
    status: AgentSetStatus = Field(default_factory=AgentSetStatus)
    """What agents there are. Written by choregos."""


AGENTSET = Kind(
    group=GROUP,
    version="v1",
    kind="AgentSet",
    plural="agentsets",
    singular="agentset",
    namespaced=True,
    model=AgentSet,
    short_names=("as",),
    categories=("all", "choregos"),
    columns=(
        NAME,
        Column("Desired", path("spec", "replicas", default=0), type="integer", description="Agents declared."),
        Column("Ready", path("status", "readyReplicas", default=0), type="integer", description="Agents taking calls."),
        Column(
            "Up-To-Date",
            path("status", "updatedReplicas", default=0),
            type="integer",
            description="Agents made from the template as it is now.",
        ),
        Column(
            "Available",
            path("status", "availableReplicas", default=0),
            type="integer",
            description="Agents made from the template as it is now that take calls.",
        ),
        Column(
            "Pending",
            path("status", "pendingReplicas", default=0),
            type="integer",
            description="Agents that no node has room for.",
        ),
        Column("Status", condition_reason("Ready"), description="Reason of the Ready condition."),
        Column("Region", path("spec", "region"), description="Region the agents run in."),
        AGE,
        Column("Capabilities", joined("spec", "template", "capabilities"), wide=True, description="What they can do."),
        Column("Selector", path("status", "selector"), wide=True, description="Label selector of the agents."),
        Column("Message", condition_message("Ready"), wide=True, description="Message of the Ready condition."),
    ),
    scale=ScalePaths(),
)
