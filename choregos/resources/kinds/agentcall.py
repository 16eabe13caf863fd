"""AgentCall: a call from outside to an agent, as an object to POST. Answered in `status`, not stored."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from choregos.resources.kind import Kind
from choregos.resources.kinds.parts import FreeForm, MethodName, ObjectMeta, Part, Resource, Seconds, Selector, Word
from choregos.resources.meta import GROUP
from choregos.resources.rules.rule import FORBIDDEN, REQUIRED, Rule, ruled


class AgentCallSpec(Part):
    """Whom to call and with what. Names `agent` or `capability`."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "has(self.agent) || has(self.capability)",
                "names nobody to call; needs agent or capability",
                reason=REQUIRED,
            ),
            Rule(
                "!has(self.agent) || has(self.method)",
                "is needed to call an agent by name",
                at=".method",
                reason=REQUIRED,
            ),
            *(
                Rule(
                    f"!has(self.agent) || !has(self.{field})",
                    "may not be used together with spec.agent",
                    at=f".{field}",
                    reason=FORBIDDEN,
                )
                for field in ("capability", "selector")
            ),
        )
    )

    agent: str | None = Field(default=None, min_length=1)
    """Name of the agent, in the namespace of this object."""
    capability: Word | None = None
    """Capability of the agent; the best of those that have it is called."""
    selector: Selector | None = None
    """Label selector that narrows the agents that have the capability: `tier=gold,region in (us,eu)`."""
    method: MethodName | None = None
    """Method to run. May be left out with `capability` if one method serves it."""
    arguments: FreeForm = Field(default_factory=dict)
    """Arguments by name."""
    timeout_seconds: Seconds = 30
    """Seconds to wait for the answer. Default 30."""


class CallFailure(Part):
    """Why there is no result."""

    code: str
    """Stable word for programs: `NoAgent`, `Unavailable`, `DeadlineExceeded`, `MethodNotFound`, `InvalidArguments`,
    `PayloadTooLarge`, `CallCancelled`, `HostLost`, `HandlerFailed`, `Overloaded`."""
    message: str = ""
    """What went wrong, for people."""
    type: str = ""
    """Class of the exception the method raised."""
    traceback: str = ""
    """Traceback at the agent."""


class AgentCallStatus(Part):
    """How the call ended."""

    result: object = None
    """What the method returned: any JSON value; absent if it returned nothing or failed."""
    error: CallFailure | None = None
    """Why there is no result."""
    agent: str | None = None
    """Name of the agent that answered."""
    duration_milliseconds: float | None = None
    """How long the call took, in milliseconds."""


class AgentCall(Resource):
    """A call to an agent. Creating it makes the call and returns it with its status filled; it is not stored."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    """Only the namespace matters; a name is not needed."""
    spec: AgentCallSpec
    """Whom to call and with what."""
    status: AgentCallStatus | None = None
    """How the call ended. Written by choregos."""


AGENTCALL = Kind(
    group=GROUP,
    version="v1",
    kind="AgentCall",
    plural="agentcalls",
    singular="agentcall",
    namespaced=True,
    model=AgentCall,
    verbs=frozenset({"create"}),
    has_status=False,
    plane="virtual",
)
