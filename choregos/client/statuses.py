"""Answers that say no, as errors: `metav1.Status` and the error of an AgentCall become classes of
`choregos.foundation.errors`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from choregos.foundation.errors import (
    CALL_ERRORS,
    AlreadyExists,
    CallError,
    ChoregosError,
    Conflict,
    Denied,
    Expired,
    FieldError,
    Invalid,
    NotFound,
    Permanent,
    Temporary,
    TooLarge,
    Unauthenticated,
)

_BY_REASON: dict[str, type[ChoregosError]] = {
    "NotFound": NotFound,
    "AlreadyExists": AlreadyExists,
    "Conflict": Conflict,
    "Unauthorized": Unauthenticated,
    "Forbidden": Denied,
    "Expired": Expired,
    "Gone": Expired,
    "RequestEntityTooLarge": TooLarge,
}
_BY_CODE: dict[int, type[ChoregosError]] = {
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    409: Conflict,
    410: Expired,
    413: TooLarge,
}
_INVALID = (400, 405, 406, 415, 422)
_TEMPORARY = (408, 429, 502, 503, 504)


def error_of_status(status: Mapping[str, Any]) -> ChoregosError:
    """The error that a `metav1.Status` of a failure reports."""
    code = int(status.get("code") or 500)
    message = str(status.get("message") or f"the server answered {code} without saying why")
    details = status.get("details") or {}
    if code in _INVALID:
        return _invalid(message, details)
    if code in _TEMPORARY:
        return Temporary(message, retry_after_s=float(details.get("retryAfterSeconds") or 1.0))
    kind = _BY_REASON.get(str(status.get("reason"))) or _BY_CODE.get(code) or Permanent
    return kind(message)


def error_of_call(error: Mapping[str, Any]) -> CallError:
    """The error that the status of an AgentCall reports."""
    kind = CALL_ERRORS.get(str(error.get("code")), CallError)
    return kind(
        str(error.get("message") or error.get("code") or "the call failed without saying why"),
        agent=str(error.get("agent") or ""),
        remote_type=str(error.get("type") or ""),
        remote_traceback=str(error.get("traceback") or ""),
    )


def _invalid(message: str, details: Mapping[str, Any]) -> Invalid:
    causes = tuple(
        FieldError(str(c.get("field") or ""), str(c.get("message") or ""), str(c.get("reason") or "FieldValueInvalid"))
        for c in details.get("causes") or ()
    )
    # With causes the server's message repeats them all in one line, after this.
    head, found, _ = message.partition(" is invalid: ")
    return Invalid(f"{head} is invalid" if found and causes else message, causes)
