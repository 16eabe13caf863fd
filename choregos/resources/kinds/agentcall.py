"""AgentCall: a call from outside to an agent, as an object to POST. Answered in `status`, not stored."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from choregos.foundation.errors import FieldError
from choregos.resources import selectors
from choregos.resources.kind import Kind, ReadOnlyObject
from choregos.resources.kinds.parts import FreeForm, ObjectMeta, Part, Resource, Seconds, Word
from choregos.resources.kinds.template_rules import mapping
from choregos.resources.meta import GROUP


class AgentCallSpec(Part):
    """Whom to call and with what. Names `agent` or `capability`."""

    agent: str | None = None
    """Name of the agent, in the namespace of this object."""
    capability: Word | None = None
    """Capability of the agent; the best of those that have it is called."""
    selector: str | None = None
    """Label selector that narrows the agents that have the capability: `tier=gold,region in (us,eu)`."""
    method: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Method to run. May be left out with `capability` if one method serves it."""
    arguments: FreeForm = Field(default_factory=dict)
    """Arguments by name."""
    timeout_seconds: Seconds = 30
    """Seconds to wait for the answer. Default 30."""


class CallFailure(Part):
    """Why there is no result."""

    code: str
    """Stable word for programs: `NoAgent`, `Unavailable`, `DeadlineExceeded`, `MethodNotFound`, `InvalidArguments`,
    `PayloadTooLarge`, `Cancelled`, `HandlerFailed`, `Overloaded`."""
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


def rules(obj: ReadOnlyObject) -> Iterator[FieldError]:
    spec = mapping(obj.get("spec"))
    agent, capability, selector = spec.get("agent"), spec.get("capability"), spec.get("selector")
    if not agent and not capability:
        yield FieldError("spec", "names nobody to call; needs agent or capability", "FieldValueRequired")
    if agent and capability:
        yield FieldError("spec.capability", "may not be used together with spec.agent", "FieldValueForbidden")
    if agent and not spec.get("method"):
        yield FieldError("spec.method", "is needed to call an agent by name", "FieldValueRequired")
    if selector and agent:
        yield FieldError("spec.selector", "may not be used together with spec.agent", "FieldValueForbidden")
    if isinstance(selector, str):
        try:
            selectors.parse_label_selector(selector)
        except ValueError as error:
            yield FieldError("spec.selector", str(error))


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
    rules=rules,
)
