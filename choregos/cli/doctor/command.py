"""The command: runs every check, shows what it found, and fails when something does not work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Literal

from cyclopts import Parameter

from choregos.cli.doctor.directory import check_directory, read_state
from choregos.cli.doctor.finding import Finding, Level, fail
from choregos.cli.doctor.fleet import check_fleet
from choregos.cli.doctor.machine import check_machine
from choregos.cli.output import print_json, show
from choregos.cli.session import Session
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import Permanent

REPORT_IT = "This is a fault of the check itself; please report it."


async def doctor(
    *,
    output: Annotated[Literal["text", "json"], Parameter(name=("--output", "-o"))] = "text",
    session: Session = Session(),  # noqa: B008  (immutable)
) -> None:
    """Find what is wrong with a set-up, and its remedy. Exit code 1 if something does not work.

    Parameters
    ----------
    output
        `json` for scripts: a list of check, level (ok, warn, fail), message, remedy.
    """
    findings = []
    async for finding in _findings(session):
        findings.append(finding)
        if output == "text":
            show(_line(finding))
    if output == "json":
        print_json([asdict(finding) for finding in findings])
    failed = [finding.check for finding in findings if finding.level is Level.FAIL]
    if failed:
        raise Permanent(f"not in order: {', '.join(dict.fromkeys(failed))}")


async def _findings(session: Session) -> AsyncIterator[Finding]:
    clock = SystemClock()
    state = read_state(session.data_directory)
    for group, checks in (("machine", check_machine(clock)), ("data directory", check_directory(state, clock))):
        try:
            for finding in checks:
                yield finding
        except Exception as error:
            yield _broken(group, error)
    try:
        async for finding in check_fleet(state, session):
            yield finding
    except Exception as error:
        yield _broken("fleet", error)


def _broken(group: str, error: Exception) -> Finding:
    return fail(group, f"the checks ended early: {type(error).__name__}: {error}", REPORT_IT)


def _line(finding: Finding) -> str:
    line = f"{finding.level.upper():<4}  {finding.check}: {finding.message}"
    return f"{line}\n      → {finding.remedy}" if finding.remedy else line
