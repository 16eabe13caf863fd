"""Nothing outlives what it was started by, however that ends and however detached it is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from choregos.foundation import tether

pytestmark = [pytest.mark.real, pytest.mark.skipif(not tether.CAN_GUARD, reason="prctl(2) is Linux's")]

FAMILY = Path(__file__).with_name("foundation_family.py")
PATIENCE_S = 30.0

Pids = dict[str, int]


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def until_gone(pids: Pids, *names: str) -> None:
    for name in names or pids:
        until(lambda: not lives(pids[name]), f"{name} has ended")  # noqa: B023


class Guarded:
    """A program under a guard, which is a child of this process unless `adopted` is given."""

    def __init__(self, mark: str, *command: str) -> None:
        reading, writing = os.pipe()
        parent = str(os.getpid())
        argv = [sys.executable, "-S", "-E", tether.__file__, "guard", str(writing), mark, parent, *command]
        self.guard = subprocess.Popen(argv, pass_fds=(writing,), stderr=subprocess.PIPE, start_new_session=True)
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            self.program = int(told.read() or 0)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Callable[..., Guarded]]:
    made: list[Guarded] = []

    def start(*command: str, mark: str = str(tmp_path)) -> Guarded:
        made.append(Guarded(mark, *command))
        return made[-1]

    yield start
    for each in made:
        if each.guard.poll() is None:
            each.guard.kill()
        each.guard.communicate()


def read(file: Path) -> Pids:
    until(file.exists, "the family is there")
    pids: Pids = json.loads(file.read_text())
    assert all(map(lives, pids.values()))
    return pids


@pytest.fixture
def family(guarded: Callable[..., Guarded], tmp_path: Path) -> Iterator[tuple[Guarded, Pids]]:
    file = tmp_path / "family"
    started = guarded(sys.executable, str(FAMILY), str(file))
    pids = read(file)
    yield started, pids
    for pid in pids.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_the_guard_tells_the_number_of_its_program_and_passes_signals_on(family: tuple[Guarded, Pids]) -> None:
    guarded, pids = family
    assert guarded.program == pids["program"]
    guarded.guard.terminate()
    assert guarded.guard.wait(PATIENCE_S) == 5
    until_gone(pids)


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -SEGV $$", -signal.SIGSEGV), ("kill $$", -15)])
def test_the_guard_ends_as_its_program_did(guarded: Callable[..., Guarded], script: str, status: int) -> None:
    assert guarded("/bin/sh", "-c", script).guard.wait(PATIENCE_S) == status


def test_a_program_that_cannot_be_run_is_named(guarded: Callable[..., Guarded]) -> None:
    guard = guarded("/nowhere/program").guard
    assert b"/nowhere/program: No such file" in guard.communicate(timeout=PATIENCE_S)[1]
    assert guard.returncode == 127


def test_when_the_program_is_killed_all_that_came_from_it_ends(family: tuple[Guarded, Pids]) -> None:
    guarded, pids = family
    os.kill(guarded.program, signal.SIGKILL)
    assert guarded.guard.wait(PATIENCE_S) == -signal.SIGKILL
    assert not any(map(lives, pids.values())), "the guard is the last to go"


def test_when_a_worker_dies_what_it_leaves_behind_ends_and_the_rest_lives(family: tuple[Guarded, Pids]) -> None:
    guarded, pids = family
    os.kill(pids["ada"], signal.SIGKILL)
    until_gone(pids, "ada", "ada child", "ada in a session", "ada daemon")
    assert all(lives(pid) for name, pid in pids.items() if name.startswith("bob"))
    assert lives(pids["ada nameless"]), "nobody can tell whose it was"
    os.kill(guarded.program, signal.SIGKILL)
    until_gone(pids)


_PARENT = """
import subprocess, sys, time, os
command = [sys.executable, "-S", "-E", sys.argv[1], "guard", "1", sys.argv[2], str(os.getpid()), *sys.argv[3:]]
subprocess.Popen(command)
time.sleep(1000)
"""


def test_when_the_parent_is_killed_all_that_came_from_it_ends(tmp_path: Path) -> None:
    file = tmp_path / "family"
    command = [sys.executable, "-c", _PARENT, tether.__file__, str(tmp_path), sys.executable, str(FAMILY), str(file)]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    pids = read(file)
    parent.kill()
    parent.wait()
    until_gone(pids)


def test_what_a_killed_guard_leaves_behind_ends_with_the_next_of_its_mark(
    family: tuple[Guarded, Pids], guarded: Callable[..., Guarded]
) -> None:
    first, pids = family
    first.guard.kill()
    first.guard.wait()
    until_gone(pids, "program")
    assert lives(pids["ada daemon"])
    assert guarded("/bin/true", mark="another").guard.wait(PATIENCE_S) == 0
    assert lives(pids["ada daemon"])
    assert guarded("/bin/true").guard.wait(PATIENCE_S) == 0
    until_gone(pids, *(name for name in pids if "nameless" not in name))


def test_orphans_that_end_by_themselves_are_not_left_as_zombies(guarded: Callable[..., Guarded]) -> None:
    started = guarded("/bin/sh", "-c", "(setsid /bin/sh -c true &); (sleep 0.1 &); exec sleep 1000")
    guard = psutil.Process(started.guard.pid)
    until(lambda: [child.pid for child in guard.children()] == [started.program], "one child is left")
