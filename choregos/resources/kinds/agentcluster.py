"""AgentCluster: what a person declares. Two published shapes, one model.

Shape one lists templates in `spec.agents`, each with its count. Shape two counts agent types per region
(`spec.regions[].agent_distribution`) and gives their needs in `spec.resource_management`; its field names are
snake_case because the published manifests are. `expansion` turns either into AgentSets.

Entries of lists are stored as they were written; their defaults are filled in where they are used, in the AgentSets.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from choregos.resources.columns import AGE, NAME, condition_message, condition_reason
from choregos.resources.kind import Column, Kind, ReadOnlyObject
from choregos.resources.kinds.agentcluster_rules import advice, rules
from choregos.resources.kinds.parts import (
    AsWritten,
    Conditions,
    Count,
    Labels,
    Part,
    Percent,
    Replicas,
    Resource,
    SetOf,
    SnakePart,
    Word,
    map_by,
)
from choregos.resources.kinds.template import Deadline, HistoryLimit, Resources, Strategy, Template
from choregos.resources.meta import GROUP
from choregos.resources.rules.rule import FORBIDDEN, REQUIRED, Rule, ruled


class Level(Part):
    """One level of the orchestrator."""

    name: Word
    """Name of the level."""
    scope: Literal["global", "node", "agent-group"]
    """What one instance of the level looks after: the fleet (`global`), a node, or a group of agents."""
    responsibilities: Annotated[list[Word], SetOf] = Field(default_factory=list, max_length=64)
    """What the level does, in words of the manifest's author: `resource_allocation`."""


class Orchestrator(Part):
    """The levels of control over the agents. Stored and validated, as a description: control has the levels fleet,
    region and node, whatever this says, and the server says so."""

    type: Literal["hierarchical"]
    """Only `hierarchical` so far: each level looks after the next."""
    levels: Annotated[list[Level], AsWritten, map_by("name")] = Field(default_factory=list, max_length=16)
    """Levels, from the top."""


class ClusterTemplate(Template):
    """One kind of agent and how many of it."""

    labels: Annotated[
        Labels | None,
        Field(
            json_schema_extra=ruled(
                Rule(
                    "self.all(key, !key.startsWith('choregos.dev/'))",
                    "labels that begin with choregos.dev/ are reserved",
                    says="'labels that begin with choregos.dev/ are reserved, found '"
                    " + self.filter(key, key.startsWith('choregos.dev/')).join(', ')",
                    reason=FORBIDDEN,
                )
            )
        ),
    ] = None
    """Labels of the agents, for label selectors. Those that begin with `choregos.dev/` are set by choregos."""
    replicas: Replicas = 1
    """How many agents, 0 to 1,000,000. Default 1."""
    strategy: Strategy = Field(default_factory=Strategy)
    """How agents are replaced when their template changes."""
    progress_deadline_seconds: Deadline = 600
    """Seconds after which a rollout that gets no further is told to have failed. Default 600."""
    revision_history_limit: HistoryLimit = 10
    """How many earlier templates that no agent has any more are kept to go back to. Default 10."""


class RegionShare(SnakePart):
    """How many agents of each type run in one region."""

    name: Word
    """Name of the region. A machine of its own is `local`."""
    agent_distribution: dict[Word, Replicas] = Field(default_factory=dict, max_length=1000)
    """Count per agent type. The keys are plurals of the types: `conversation_agents: 3000` asks for three thousand of
    `conversation_agent`."""


class AutoScaling(SnakePart):
    """How the number of agents follows the load (second shape). Stored and validated; nothing scales by it in this
    version, and the server says so if it is enabled."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "!has(self.min_replicas) || !has(self.max_replicas) || self.min_replicas <= self.max_replicas",
                "is more than max_replicas",
                says="string(self.min_replicas) + ' is more than max_replicas, ' + string(self.max_replicas)",
                at=".min_replicas",
            ),
            Rule(
                "!has(self.scale_down_threshold) || !has(self.scale_up_threshold)"
                " || int(string(self.scale_down_threshold).replace('%', ''))"
                " < int(string(self.scale_up_threshold).replace('%', ''))",
                "is not below scale_up_threshold",
                says="string(self.scale_down_threshold) + ' is not below scale_up_threshold, '"
                " + string(self.scale_up_threshold)",
                at=".scale_down_threshold",
            ),
        )
    )

    enabled: bool = False
    """Whether to scale at all. Default false."""
    min_replicas: Replicas | None = None
    """Fewest agents, of all types together."""
    max_replicas: Replicas | None = None
    """Most agents, of all types together."""
    target_utilization: Percent | None = None
    """Utilization to aim at: `70%`."""
    scale_up_threshold: Percent | None = None
    """Utilization above which agents are added: `80%`."""
    scale_down_threshold: Percent | None = None
    """Utilization below which agents are removed: `50%`."""


class AgentClusterSpec(Part):
    """What agents there shall be. Either `agents`, or `resource_management` with `regions` or `replicas`."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            *(
                Rule(
                    f"!has(self.agents) || !has(self.{field})",
                    "may not be used together with spec.agents",
                    at=f".{field}",
                    reason=FORBIDDEN,
                )
                for field in ("regions", "resource_management")
            ),
            Rule(
                "has(self.agents) || has(self.regions)"
                " || has(self.replicas) && has(self.resource_management) && self.resource_management.size() > 0",
                "says nothing about which agents there shall be; needs spec.agents, or spec.regions, or spec.replicas"
                " with spec.resource_management",
                reason=REQUIRED,
            ),
        )
    )

    orchestrator: Orchestrator | None = None
    """The levels of control over the agents."""
    agents: Annotated[list[ClusterTemplate] | None, AsWritten, map_by("name")] = Field(default=None, max_length=1000)
    """Agent templates with a count each (first shape)."""
    replicas: Replicas | None = None
    """Agents in all (second shape). Without `regions` they are shared out evenly among the types of
    `resource_management`; with `regions` the distributions count, and this is what they should add up to."""
    regions: Annotated[list[RegionShare] | None, AsWritten, map_by("name")] = Field(default=None, max_length=256)
    """Agents per region and type (second shape)."""
    auto_scaling: Annotated[AutoScaling | None, Field(alias="auto_scaling")] = None
    """How the number of agents follows the load (second shape)."""
    resource_management: Annotated[
        dict[Word, Resources] | None, Field(alias="resource_management", max_length=1000)
    ] = None
    """What one agent of each type needs (second shape). The keys are the types: `conversation_agent`. The code of a
    type is the entry point of its name."""


class SetSummary(Part):
    """One AgentSet of the cluster."""

    name: str
    """Name of the AgentSet."""
    region: str = ""
    """Region it runs in."""
    replicas: Count = 0
    """Agents it shall have."""
    ready_replicas: Count = 0
    """Agents of it that take calls."""


class AgentClusterStatus(Part):
    """What agents there are."""

    agents: Count = 0
    """Agents the cluster's sets shall have."""
    ready_agents: Count = 0
    """Agents that take calls."""
    sets: Annotated[list[SetSummary], map_by("name")] = Field(default_factory=list)
    """The cluster's AgentSets."""
    observed_generation: Count = 0
    """The metadata.generation this status speaks of."""
    conditions: Conditions = Field(default_factory=list)
    """`Ready`: every declared agent takes calls. `Progressing`: agents are being started, replaced or removed."""


class AgentCluster(Resource):
    """A fleet of agents: templates with counts, or types with counts per region. choregos keeps that many running."""

    spec: AgentClusterSpec
    """What agents there shall be."""
    status: AgentClusterStatus = Field(default_factory=AgentClusterStatus)
    """What agents there are. Written by choregos."""


def _ready(obj: ReadOnlyObject, now_ms: int) -> str:
    status = obj.get("status") or {}
    return f"{status.get('readyAgents', 0)}/{status.get('agents', 0)}"


def _agents(obj: ReadOnlyObject, now_ms: int) -> int:
    return int((obj.get("status") or {}).get("agents", 0))


def _sets(obj: ReadOnlyObject, now_ms: int) -> int:
    return len((obj.get("status") or {}).get("sets") or ())


def _regions(obj: ReadOnlyObject, now_ms: int) -> str:
    sets = (obj.get("status") or {}).get("sets") or ()
    return ",".join(sorted({entry["region"] for entry in sets if entry.get("region")}))


AGENTCLUSTER = Kind(
    group=GROUP,
    version="v1",
    kind="AgentCluster",
    plural="agentclusters",
    singular="agentcluster",
    namespaced=True,
    model=AgentCluster,
    short_names=("ac",),
    categories=("all", "choregos"),
    aliases=(("", "v1"),),
    columns=(
        NAME,
        Column("Ready", _ready, description="Agents that take calls, of those declared."),
        Column("Agents", _agents, type="integer", description="Agents declared."),
        Column("Sets", _sets, type="integer", description="AgentSets the cluster consists of."),
        Column("Status", condition_reason("Ready"), description="Reason of the Ready condition."),
        AGE,
        Column("Regions", _regions, wide=True, description="Regions the agents run in."),
        Column("Message", condition_message("Ready"), wide=True, description="Message of the Ready condition."),
    ),
    rules=rules,
    advice=advice,
)
