"""What an agent is made from: the template in an AgentCluster and in an AgentSet.

An AgentSet's template is stored with its defaults, so that it is complete wherever it is read, and its digest names all
of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from choregos.resources.kinds.parts import (
    ClassPath,
    Count,
    CountOrPercent,
    EnvironmentName,
    FreeForm,
    Labels,
    LabelValue,
    MemoryQuantity,
    MethodName,
    Part,
    Qualified,
    Quantity,
    Seconds,
    SecondsOrZero,
    SetOf,
    SystemText,
    Word,
)
from choregos.resources.rules.rule import FORBIDDEN, Rule, ruled

DEFAULT_CPU = "10m"
DEFAULT_MEMORY = "16Mi"


class Resources(Part):
    """What one agent needs of its node. The scheduler places it only where this much is left."""

    cpu: Quantity = DEFAULT_CPU
    """Processor cores. `500m` is half a core, `2` is two. An idle agent needs next to nothing: the default is `10m`."""
    memory: MemoryQuantity = DEFAULT_MEMORY
    """Bytes of memory. `64Mi`, `4Gi`. Default `16Mi`."""
    gpu: Quantity = "0"
    """Graphics processors. `1` is a whole one, `500m` shares one with others. Default `0`."""


class Runtime(Part):
    """Where the agent's code is. Without it the template's name is looked up among the entry points of the group
    `choregos.agents` that the installed Python packages declare."""

    python: ClassPath
    """A Python class as `module:Class`, for example `support_agents.conversation:Conversation`."""
    path: SystemText | None = Field(default=None, min_length=1)
    """Directory on the agent's node that is put first on the import path. A relative one is relative to the directory
    in which `choregos up` was started."""


class Probe(Part):
    """A method of the agent that is asked regularly. It passes unless it raises, returns False, or takes too long."""

    method: MethodName
    """Name of the method. It takes no arguments."""
    period_seconds: Seconds = 10
    """Seconds from one probe to the next. Default 10."""
    timeout_seconds: Seconds = 1
    """Seconds after which a probe without an answer has failed. Default 1."""
    failure_threshold: int = Field(default=3, ge=1, le=100)
    """Failures in a row after which the verdict falls. Default 3."""
    initial_delay_seconds: SecondsOrZero = 0
    """Seconds from the start of the agent to its first probe. Default 0."""


class Probes(Part):
    """How the agent is asked whether it is well."""

    liveness: Probe | None = None
    """A method that is asked regularly whether the agent works. It passes unless it raises, returns False, or takes too
    long; when it fails the agent is started again. Without it an agent lives while its worker does."""
    readiness: Probe | None = None
    """A method that is asked regularly whether the agent takes calls. It passes unless it raises, returns False, or
    takes too long; while it fails the agent gets no calls. Without it an agent is ready once `on_start` has
    returned."""


class Toleration(Part):
    """A taint of a node that does not keep this agent away."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                "must be Exists when there is no key",
                at=".operator",
            ),
            Rule(
                "!has(self.value) || self.value == '' || !has(self.operator) || self.operator != 'Exists'",
                "may not be given with operator Exists",
                at=".value",
                reason=FORBIDDEN,
            ),
            Rule(
                "!has(self.tolerationSeconds) || !has(self.effect) || self.effect == 'NoExecute'",
                "has no meaning with an effect other than NoExecute",
                at=".tolerationSeconds",
                reason=FORBIDDEN,
            ),
        )
    )

    key: Qualified | None = None
    """Key of the taint. Without one, and with operator `Exists`, every taint is tolerated."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """`Equal` compares the value, `Exists` does not. Default `Equal`."""
    value: LabelValue | None = None
    """Value of the taint, for `Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; without one every effect is tolerated."""
    toleration_seconds: Count | None = None
    """For `NoExecute`: seconds the agent may stay. Without it, for ever."""


class Placement(Part):
    """On which nodes the agent may run."""

    node_selector: Labels | None = None
    """Labels a node must have: `disk: fast`."""
    tolerations: list[Toleration] | None = Field(default=None, max_length=64)
    """Taints that do not keep the agent away."""


class Strategy(Part):
    """How agents are replaced when their template changes."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "!has(self.maxSurge) || !has(self.maxUnavailable) || !(string(self.maxSurge) in ['0', '0%'])"
                " || !(string(self.maxUnavailable) in ['0', '0%'])",
                "may not be 0 while maxSurge is 0",
                at=".maxUnavailable",
            )
        )
    )

    max_surge: CountOrPercent = "25%"
    """How many more agents than declared may exist meanwhile: a count, or a percentage, rounded up. Default `25%`."""
    max_unavailable: CountOrPercent = "25%"
    """How many agents fewer than declared may be ready meanwhile: a count, or a percentage, rounded down.
    Default `25%`. Not 0 together with maxSurge, or nothing could move."""


HistoryLimit = Annotated[int, Field(ge=0, le=1000)]
Deadline = Annotated[int, Field(ge=1, le=2_147_483_647)]


class Template(Part):
    """One kind of agent: its code, needs and limits."""

    name: Word
    """Name of the template. Its agents are named after it, in lower case and with `-` for `_`."""
    labels: Labels | None = None
    """Labels of the agents, for label selectors: `tier: gold`."""
    resources: Resources = Field(default_factory=Resources)
    """What one agent needs of its node."""
    capabilities: Annotated[list[Word] | None, SetOf] = Field(default=None, max_length=256)
    """What the agents can do, for callers that ask for a capability and not for a name: `conversation.reply`. Without
    it, what the class declares."""
    runtime: Runtime | None = None
    """Where the agent's code is. Without it the template's name is looked up among the entry points of the group
    `choregos.agents`."""
    isolation: Literal["shared", "dedicated"] = "shared"
    """`shared`: many agents of the namespace in one worker process. `dedicated`: a process of its own.
    Default `shared`."""
    env: dict[EnvironmentName, SystemText] | None = None
    """Variables for the agent, as `self.env`; a dedicated worker also has them in its environment. Values are text:
    quote numbers."""
    settings: FreeForm | None = None
    """Free-form settings, any JSON, handed to the agent as `self.settings`."""
    probes: Probes | None = None
    """How the agent is asked whether it is well."""
    start_timeout_seconds: Seconds = 60
    """Seconds `on_start` may take. Default 60."""
    block_timeout_seconds: Seconds = 10
    """Seconds a method may keep the event loop from the agent's neighbours before it is interrupted. Default 10."""
    termination_grace_period_seconds: int = Field(default=30, ge=0, le=86_400)
    """Whole seconds an agent may take to finish its calls and run `on_stop` before it is ended. Default 30."""
    placement: Placement | None = None
    """On which nodes the agent may run."""
