"""What a placement is decided from: nodes and requests as frozen values.

Amounts are thousandths of the resource's own unit (`resources.quantity.Milli`): `cpu` 1000 is one core, `memory` 1000
is one byte, `gpu` 1000 one device, `agents` 1000 one agent. Whole numbers, so that sums neither drift nor depend on
their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Amounts = Mapping[str, int]

AGENTS = "agents"
ONE_AGENT = 1000
"""What each agent takes of the `agents` resource, in thousandths."""

NO_SCHEDULE = "NoSchedule"
PREFER_NO_SCHEDULE = "PreferNoSchedule"
NO_EXECUTE = "NoExecute"


@dataclass(frozen=True, slots=True)
class Taint:
    """Keeps agents away that do not tolerate it; the meaning of the effects is Kubernetes'.

    Attributes:
        added_ms: wall clock when a `NoExecute` taint was added; 0 while nobody has said.
    """

    key: str
    value: str = ""
    effect: str = NO_SCHEDULE
    added_ms: int = 0

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True, slots=True)
class Toleration:
    """Lets an agent onto a tainted node.

    Attributes:
        key: of the taint; empty with `Exists` tolerates every taint.
        operator: `Equal` (key and value) or `Exists` (key alone).
        effect: of the taint; empty for every effect.
        seconds: how long a `NoExecute` taint is tolerated by an agent that runs there; None: for ever.
    """

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    seconds: int | None = None

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if self.operator == "Exists":
            return not self.key or self.key == taint.key
        return self.key == taint.key and self.value == taint.value


@dataclass(frozen=True, slots=True)
class Node:
    """One node as the scheduler sees it.

    Attributes:
        allocatable: what agents may use in all; a resource that is not named is not there.
        allocated: what the agents bound to it have asked for, those being stopped included.
        ready: it renews its lease and takes agents.
        unschedulable: cordoned: keeps its agents and gets no new ones.
    """

    name: str
    allocatable: Amounts
    allocated: Amounts = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    ready: bool = True
    unschedulable: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The nodes of one region at one moment, of distinct names."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """What one agent asks of its node.

    Attributes:
        resources: amounts; zeros count as not asked. `agents` is added by the planner.
        node_selector: labels that the node must have.
    """

    resources: Amounts = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()

    def demand(self) -> dict[str, int]:
        """Everything one agent takes from its node, the place it occupies included."""
        asked = {name: amount for name, amount in self.resources.items() if amount > 0 and name != AGENTS}
        asked[AGENTS] = ONE_AGENT
        return asked


@dataclass(frozen=True, slots=True)
class Request:
    """A number of agents that are alike and asked for together.

    Attributes:
        alike: how many of the same set each node has already; they are spread over the nodes.
    """

    needs: Needs
    count: int = 1
    alike: Mapping[str, int] = field(default_factory=dict)
