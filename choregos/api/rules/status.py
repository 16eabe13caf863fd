"""Errors as `metav1.Status`: the only place that knows which HTTP code and reason an error class has.

The texts are those of Kubernetes' own API server, because clients and people search for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from choregos.foundation import errors
from choregos.foundation.errors import ChoregosError, FieldError


class Refusal(ChoregosError):
    """A request that HTTP or the API machinery refuses, for which the domain has no error class.

    Attributes:
        code: HTTP status.
        reason: a `metav1.StatusReason`.
        details: further members of `Status.details`.
        metadata: members of `Status.metadata`, such as a fresh `continue` token.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        causes: tuple[FieldError, ...] = (),
        details: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.causes = causes
        self.details = details or {}
        self.metadata = metadata or {}


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def unknown_path() -> Refusal:
    return Refusal(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed(why: str = "") -> Refusal:
    message = "the server does not allow this method on the requested resource"
    return Refusal(405, "MethodNotAllowed", f"{message}: {why}" if why else message)


def unsupported_media(media_type: str, accepted: tuple[str, ...]) -> Refusal:
    message = f"the body of the request was in an unknown format ({media_type}) - accepted media types include: "
    return Refusal(415, "UnsupportedMediaType", message + ", ".join(accepted))


def not_acceptable(offered: tuple[str, ...]) -> Refusal:
    return Refusal(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(offered)}")


def too_many_requests(why: str) -> Refusal:
    """Asks the client to come again in a second."""
    message = f"too many requests, please try again later: {why}"
    return Refusal(429, "TooManyRequests", message, details={"retryAfterSeconds": 1})


def size(number_bytes: int) -> str:
    """As people read it, such as `64 MiB`; of what is no whole number of a unit, in the next smaller one."""
    for exponent, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number_bytes and number_bytes % (1 << exponent) == 0:
            return f"{number_bytes >> exponent} {unit}"
    return f"{number_bytes} bytes"


@dataclass(frozen=True, slots=True)
class Subject:
    """What the failed request was about; every part may be empty.

    Attributes:
        group, kind, resource: of the kind that was addressed.
        name: of the object, as far as it is known.
    """

    group: str = ""
    kind: str = ""
    resource: str = ""
    name: str = ""

    @property
    def qualified_resource(self) -> str:
        """`agentclusters.choregos.dev`."""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    @property
    def qualified_kind(self) -> str:
        """`AgentCluster.choregos.dev`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


@dataclass(frozen=True, slots=True)
class Failure:
    """An HTTP answer that says no: status code, `metav1.Status` body, further headers."""

    code: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


_REASONS: tuple[tuple[type[ChoregosError], int, str], ...] = (
    (errors.NotFound, 404, "NotFound"),
    (errors.AlreadyExists, 409, "AlreadyExists"),
    (errors.Conflict, 409, "Conflict"),
    (errors.Invalid, 422, "Invalid"),
    (errors.Unauthenticated, 401, "Unauthorized"),
    (errors.Denied, 403, "Forbidden"),
    (errors.Expired, 410, "Expired"),
    (errors.TooLarge, 413, "RequestEntityTooLarge"),
    (errors.Temporary, 503, "ServiceUnavailable"),
)


def failure(error: ChoregosError, subject: Subject) -> Failure:
    """The answer to a request that raised `error`."""
    details: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, Refusal):
        code, reason, message, causes = error.code, error.reason, str(error), error.causes
        metadata = error.metadata
    else:
        code, reason = next(((c, r) for kind, c, r in _REASONS if isinstance(error, kind)), (500, "InternalError"))
        message = _message(error, subject)
        causes = error.causes if isinstance(error, errors.Invalid) else ()
    if subject.resource:
        details = {"group": subject.group, "kind": subject.kind if reason == "Invalid" else subject.resource}
        if subject.name:
            details["name"] = subject.name
    if isinstance(error, Refusal):
        details |= error.details
    if causes:
        details["causes"] = [{"reason": c.reason, "message": c.message, "field": c.path} for c in causes]
    if isinstance(error, errors.Temporary):
        seconds = max(1, round(error.retry_after_s))
        details["retryAfterSeconds"] = seconds
    if "retryAfterSeconds" in details:
        headers["Retry-After"] = str(details["retryAfterSeconds"])
    return Failure(code, document(code, reason, message, details, metadata), headers)


def document(
    code: int, reason: str, message: str, details: dict[str, Any], metadata: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A `metav1.Status` that reports a failure."""
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": metadata or {},
        "status": "Failure",
        "message": message,
    }
    body |= {"reason": reason, "code": code}
    if details:
        body["details"] = details
    return body


def success(subject: Subject, uid: str) -> dict[str, Any]:
    """The `metav1.Status` that answers a completed deletion."""
    details = {"name": subject.name, "group": subject.group, "kind": subject.resource, "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _message(error: ChoregosError, subject: Subject) -> str:
    if not subject.resource:
        return str(error)
    quoted = f'{subject.qualified_resource} "{subject.name}"'
    match error:
        case errors.NotFound():
            return f"{quoted} not found"
        case errors.AlreadyExists():
            return f"{quoted} already exists"
        case errors.Conflict():
            return f"Operation cannot be fulfilled on {quoted}: {error}"
        case errors.Invalid():
            # A call has no name, and an object may have been given none.
            named = f'{subject.qualified_kind} "{subject.name}"' if subject.name else subject.qualified_kind
            return f"{named} is invalid: {_faults(error)}"
    return str(error)


def _faults(error: errors.Invalid) -> str:
    if not error.causes:
        return str(error)
    faults = [str(cause) for cause in error.causes]
    return faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
