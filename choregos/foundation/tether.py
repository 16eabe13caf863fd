"""Ties a process's life to its parent's, and what it leaves behind to its own: both hold however anybody dies.

Linux only (prctl(2)); elsewhere `die_with_parent` does nothing and says so by returning False, and `CAN_GUARD` is
False. A program that is not ours, or that shall leave nothing behind, is started through this file:

    python -S -E tether.py PARENT_PID program argument …
    python -S -E tether.py guard PIPE MARK PARENT_PID program argument …

The first ties the program to its parent (`PR_SET_PDEATHSIG` survives `exec`). The second stays, as a small process of
its own between parent and program, the *guard*. It writes the program's process id to PIPE, passes signals on, and ends
as the program did. Whatever has lost its parent below it falls to it (`PR_SET_CHILD_SUBREAPER`), in whatever session it
is. Invariants:

- when the program ends, or the parent, the guard ends everything below it, and only then itself;
- what a worker process leaves behind ends about `SWEEP_S` after it: orphans whose environment names a worker
  (`WORKER_VARIABLE`) that is no child of the program any more;
- when the guard itself is killed, the program dies with it; what was below that is ended by the next guard with the
  same MARK, which everything below a guard has in its environment (`MARK_VARIABLE`).

It imports nothing of choregos and little of the library, so that it costs a few milliseconds and little memory.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

CAN_GUARD = sys.platform.startswith("linux")

MARK_VARIABLE = "CHOREGOS_MACHINE"
WORKER_VARIABLE = "CHOREGOS_WORKER"

SWEEP_S = 1.0
KILLING_S_MAX = 5.0
"""What a kernel does not end within this time hangs in it, and nobody can wait for it."""

_KILLING_POLL_S = 0.01
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PARENT_ENDED = signal.SIGUSR1
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_AWAITED = (signal.SIGCHLD, _PARENT_ENDED, *_PASSED_ON)


def die_with_parent(parent_pid: int, number: int = signal.SIGKILL) -> bool:
    """Asks the kernel to send this process a signal when its parent ends.

    Ends the process at once if the parent is gone already: the request would come too late to be noticed.

    Args:
        parent_pid: who started us, as that process knew itself.

    Returns:
        Whether the platform can do it.
    """
    if not sys.platform.startswith("linux"):
        return False
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent_pid:
        os._exit(128 + signal.SIGKILL)
    return True


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


# The guard.


def _guard(pipe: int, mark: str, parent_pid: int, command: list[str]) -> None:
    """Never returns."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    die_with_parent(parent_pid, _PARENT_ENDED)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    os.set_inheritable(pipe, False)
    _end_leftovers(f"{MARK_VARIABLE}={mark}".encode())
    os.putenv(MARK_VARIABLE, mark)
    guard = os.getpid()
    program = os.fork()
    if program == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        die_with_parent(guard)
        try:
            os.execv(command[0], command)  # noqa: S606 (no shell is what we want)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(127)
    os.write(pipe, b"%d" % program)
    os.close(pipe)
    code = _attend(program)
    _end_all()
    _end_as(code)


def _attend(program: int) -> int:
    """Until the program ends: its exit status, negative for a signal."""
    while True:
        news = signal.sigtimedwait(_AWAITED, SWEEP_S)
        if news is not None and news.si_signo == _PARENT_ENDED:
            return -signal.SIGKILL
        if news is not None and news.si_signo in _PASSED_ON:
            os.kill(program, news.si_signo)
        code = _reap(program)
        if code is not None:
            return code
        _end_orphans(program)  # one generation; the ends of these bring us back for the next


def _reap(program: int) -> int | None:
    """Takes note of all children that have ended; how the program did, if it was among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == program:
            code = os.waitstatus_to_exitcode(status)


def _end_orphans(program: int) -> None:
    """Those whose worker is gone. One that names no worker has cleared its environment, and goes with the program."""
    orphans = [pid for pid in _children(os.getpid()) if pid != program]
    if not orphans:
        return
    living = {_worker_of(pid) for pid in _children(program)}
    for pid in orphans:
        if _worker_of(pid) not in (b"", *living):
            _kill_child(pid)


def _end_all() -> None:
    """Everything below this process: what loses its parent by that becomes a child of ours, and is next."""
    for _ in range(int(KILLING_S_MAX / _KILLING_POLL_S)):
        for pid in _children(os.getpid()):
            _kill_child(pid)
        _reap(0)
        if not _children(os.getpid()):
            return
        signal.sigtimedwait((signal.SIGCHLD,), _KILLING_POLL_S)


def _kill_child(pid: int) -> None:
    """The number stays a child's, living or not, until we take note of its end."""
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        return  # it has become another user's


def _end_as(code: int) -> None:
    if code < 0:
        number = -code
        # A memory image of this process would say nothing of the one that crashed.
        _prctl(_PR_SET_DUMPABLE, 0)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
        os.kill(os.getpid(), number)
    os._exit(code if code >= 0 else 128 - code)


def _end_leftovers(mark: bytes) -> None:
    """What is left of a guard with this mark that was killed itself, together with what it guarded."""
    if mark in _environment(os.getpid()):
        return  # we have been started from such a leftover
    for _ in range(int(KILLING_S_MAX / _KILLING_POLL_S)):
        left = [pid for pid in _processes() if mark in _environment(pid)]
        if not left:
            return
        for pid in left:
            _kill_marked(pid, mark)
        signal.sigtimedwait((signal.SIGCHLD,), _KILLING_POLL_S)


def _kill_marked(pid: int, mark: bytes) -> None:
    """No child of ours: its number may be another process's by now, which a descriptor of it tells."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if mark in _environment(pid):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        return
    finally:
        os.close(process)


def _children(pid: int) -> list[int]:
    """Those of all its threads, ended ones that it has not taken note of included."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 (lean)
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123 (lean)
                found += map(int, file.read().split())
    except OSError:  # it has ended, or the kernel was built without these files
        return [child for child in _processes() if _parent_of(child) == pid]
    return found


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 (lean)


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 (lean)
            # pid (name, which may hold anything) state parent …
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _environment(pid: int) -> list[bytes]:
    """As the process was started; empty of one that has ended, or is another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 (lean)
            return file.read().split(b"\0")
    except OSError:
        return []


def _worker_of(pid: int) -> bytes:
    prefix = f"{WORKER_VARIABLE}=".encode()
    return next((entry[len(prefix) :] for entry in _environment(pid) if entry.startswith(prefix)), b"")


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[0] == "guard":
        _guard(int(given[1]), given[2], int(given[3]), given[4:])
    die_with_parent(int(given[0]))
    os.execv(given[1], given[1:])  # noqa: S606 (no shell is what we want)
