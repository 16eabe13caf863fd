"""What the exit status of `choregos` means to a script, and which error has which. Pure."""

from __future__ import annotations

from enum import IntEnum

from choregos.foundation import errors


class ExitCode(IntEnum):
    """Also in `docs/cli.md`; a number never changes its meaning."""

    OK = 0
    FAILED = 1  # the operation did not succeed
    USAGE = 2  # the command line is wrong
    NOT_FOUND = 3  # the object, agent or kubeconfig does not exist
    TIMED_OUT = 4  # it did not happen in the time given
    INVALID = 5  # the input was refused; the same input will always be
    DENIED = 6  # not known to the server, or not allowed
    UNAVAILABLE = 7  # the server or agent cannot be reached now; try again
    INTERRUPTED = 130  # Ctrl-C, as shells have it; what is asked to run until then ends in order with OK


_CODES: tuple[tuple[type[errors.ChoregosError], ExitCode], ...] = (
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.NoAgent, ExitCode.NOT_FOUND),
    (errors.TimedOut, ExitCode.TIMED_OUT),
    (errors.DeadlineExceeded, ExitCode.TIMED_OUT),
    (errors.Invalid, ExitCode.INVALID),
    (errors.MethodNotFound, ExitCode.INVALID),
    (errors.InvalidArguments, ExitCode.INVALID),
    (errors.PayloadTooLarge, ExitCode.INVALID),
    (errors.TooLarge, ExitCode.INVALID),
    (errors.Unauthenticated, ExitCode.DENIED),
    (errors.Denied, ExitCode.DENIED),
    (errors.Temporary, ExitCode.UNAVAILABLE),
    (errors.Unavailable, ExitCode.UNAVAILABLE),
    (errors.Overloaded, ExitCode.UNAVAILABLE),
)


def exit_code(error: errors.ChoregosError) -> ExitCode:
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)
