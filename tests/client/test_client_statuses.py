"""What the server refuses is raised as the class that tells the caller what to do."""

from __future__ import annotations

import pytest

from choregos.client.statuses import error_of_call, error_of_status
from choregos.foundation import errors
from choregos.foundation.errors import ChoregosError, FieldError, HandlerFailed, Invalid, Temporary


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", errors.Invalid),
        (401, "Unauthorized", errors.Unauthenticated),
        (403, "Forbidden", errors.Denied),
        (404, "NotFound", errors.NotFound),
        (405, "MethodNotAllowed", errors.Invalid),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (410, "Expired", errors.Expired),
        (413, "RequestEntityTooLarge", errors.TooLarge),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.Temporary),
        (500, "InternalError", errors.Permanent),
        (503, "ServiceUnavailable", errors.Temporary),
        (504, "Timeout", errors.Temporary),
        (418, "Teapot", errors.Permanent),
    ],
)
def test_code_and_reason_choose_the_class(code: int, reason: str, kind: type[ChoregosError]) -> None:
    error = error_of_status({"code": code, "reason": reason, "message": "why"})
    assert type(error) is kind
    assert str(error) == "why"


def test_every_fault_is_kept_with_its_path_and_told_once() -> None:
    causes = [
        {"field": "spec.a", "message": "must be 1", "reason": "FieldValueInvalid"},
        {"field": "spec.b", "message": "is missing", "reason": "FieldValueRequired"},
    ]
    message = 'AgentCluster "x" is invalid: [spec.a: must be 1, spec.b: is missing]'
    error = error_of_status({"code": 422, "reason": "Invalid", "message": message, "details": {"causes": causes}})
    assert isinstance(error, Invalid)
    assert error.causes[1] == FieldError("spec.b", "is missing", "FieldValueRequired")
    assert str(error) == 'AgentCluster "x" is invalid\n  spec.a: must be 1\n  spec.b: is missing'


def test_the_delay_is_kept() -> None:
    error = error_of_status({"code": 503, "message": "busy", "details": {"retryAfterSeconds": 7}})
    assert isinstance(error, Temporary)
    assert error.retry_after_s == 7


def test_a_call_keeps_type_traceback_and_agent() -> None:
    error = error_of_call(
        {"code": "HandlerFailed", "message": "bad", "type": "KeyError", "traceback": "Traceback…", "agent": "a-0"}
    )
    assert type(error) is HandlerFailed
    assert (error.agent, error.remote_type, error.remote_traceback) == ("a-0", "KeyError", "Traceback…")


def test_an_unknown_code_is_still_a_call_error() -> None:
    assert type(error_of_call({"code": "New"})) is errors.CallError
