"""Errors, one class per answer to "what does my caller do now?".

Backends translate the errors of their libraries into these at their edge and chain the cause. What is persisted
or sent of a failure is data (`choregos.wire`), never a pickled exception. The API server maps each class to an
HTTP status and a `metav1.Status` reason; the command line maps it to an exit code.
"""

from __future__ import annotations

from dataclasses import dataclass


class ChoregosError(Exception):
    """Root of everything choregos raises on purpose."""


class NotFound(ChoregosError):
    """The thing named does not exist: create it, or correct the name."""


class AlreadyExists(ChoregosError):
    """A thing of this name exists: choose another, or update it."""


class Conflict(ChoregosError):
    """It changed since it was read: read again, decide again, write again."""


class Deposed(Conflict):
    """The writer's leadership or ownership epoch is over: stop, write nothing more."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field.

    Attributes:
        path: where, in the manifest's own terms: `spec.agents[2].resources.cpu`.
        message: what was expected and what was found.
        reason: a `metav1.CauseType`: `FieldValueInvalid`, `FieldValueRequired`, `FieldValueNotSupported`, …
    """

    path: str
    message: str
    reason: str = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Invalid(ChoregosError):
    """The input is wrong; every fault is listed with its path, and the same input will always be refused."""

    def __init__(self, message: str, causes: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.causes = causes

    def __str__(self) -> str:
        head = super().__str__()
        return "\n".join([head, *(f"  {cause}" for cause in self.causes)])


class Unauthenticated(ChoregosError):
    """Who is asking is not known: present a certificate or a token."""


class Denied(ChoregosError):
    """Who is asking is known and may not do this."""


class Expired(ChoregosError):
    """The revision asked for is no longer held: list again and continue from there (HTTP 410)."""


class TooLarge(ChoregosError):
    """The payload is over a limit; the message names the limit and the size."""


class Temporary(ChoregosError):
    """It may work later: try again after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TimedOut(ChoregosError):
    """What was waited for did not happen in the time given; it still may. The message says how things are."""


class Permanent(ChoregosError):
    """It will not work however often it is tried; a person must change something."""


class CallError(ChoregosError):
    """A call to an agent did not return a result.

    Attributes:
        code: a stable word for programs, one per subclass.
        agent: `namespace/name` of the agent that was called, empty if none was reached.
        remote_type: the class name of the exception at the agent.
        remote_traceback: the agent's traceback as text, empty if it raised nothing.
    """

    code = "Unknown"

    def __init__(self, message: str, *, agent: str = "", remote_type: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.agent = agent
        self.remote_type = remote_type
        self.remote_traceback = remote_traceback


class NoAgent(CallError):
    """No ready agent has that name, capability or labels."""

    code = "NoAgent"


class Unavailable(CallError):
    """The agent's host could not be reached; the call did not start, so it is safe to repeat."""

    code = "Unavailable"


class DeadlineExceeded(CallError):
    """No answer within the call's time; the agent may or may not have acted."""

    code = "DeadlineExceeded"


class MethodNotFound(CallError):
    """The agent has no such method; the message lists the methods it has."""

    code = "MethodNotFound"


class InvalidArguments(CallError):
    """The arguments do not fit the method's signature; the message names the argument."""

    code = "InvalidArguments"


class PayloadTooLarge(CallError):
    """Arguments or result are over the size limit; the message names limit and size."""

    code = "PayloadTooLarge"


class CallCancelled(CallError):
    """The agent stopped, or the caller's own caller went away, before there was a result."""

    code = "CallCancelled"


class HostLost(CallError):
    """The process that had the call has ended, or cannot be reached any more; the agent may or may not have acted."""

    code = "HostLost"


class HandlerFailed(CallError):
    """The agent's method raised; `remote_type` and `remote_traceback` say what and where."""

    code = "HandlerFailed"


class Overloaded(CallError):
    """The agent's host has too many calls waiting; the call did not start, so it is safe to repeat."""

    code = "Overloaded"


CALL_ERRORS: dict[str, type[CallError]] = {
    error.code: error
    for error in (
        NoAgent,
        Unavailable,
        DeadlineExceeded,
        MethodNotFound,
        InvalidArguments,
        PayloadTooLarge,
        CallCancelled,
        HostLost,
        HandlerFailed,
        Overloaded,
    )
}
