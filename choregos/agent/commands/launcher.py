"""Runs one command and sees to it that nothing of it is left behind. A program of its own, started by `command`:

    python -I -S launcher.py LIFELINE WORKER_PID TTY program argument …

It gives the command the resource limits of the agent's worker and, with TTY 1, the terminal of its standard input. It
ends with the command's status (128 and the signal's number if one killed it; 127 if there is no such program, 126 if it
cannot be run), after it has ended everything that the command started, however detached. The same happens when the
other end of LIFELINE is closed, which the kernel does when the node ends, however it ends.

Imports nothing of choregos and little of the library, so that it costs a few milliseconds. What a process does that
leaves no child of ours behind, such as asking another service to start something, is out of its reach; so is all but
the command's own process group where there is no `PR_SET_CHILD_SUBREAPER` (Linux has it).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import sys
import termios
import time

PATIENCE_S = 1.0
"""From SIGHUP to SIGKILL for what has to end."""

NOT_FOUND, NOT_RUNNABLE = 127, 126
_PR_SET_CHILD_SUBREAPER = 36
_STANDARD = (0, 1, 2)


def main(lifeline: int, worker: int, tty: bool, command: list[str]) -> int:
    """Returns the exit status."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(lifeline, False)
    news, alarm = os.pipe()
    for end in (news, alarm):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    child = os.fork()
    if child == 0:
        _become(worker, tty, command)
    _let_go_of_streams()
    status = None
    while status is None:
        ready, _, _ = select.select((lifeline, news), (), ())
        if lifeline in ready:
            break
        with contextlib.suppress(BlockingIOError):
            os.read(news, 4096)
        status = _reap(child)
    _end_all(child, news)
    return 128 + signal.SIGHUP if status is None else status


def _become(worker: int, tty: bool, command: list[str]) -> None:
    """The child's part: never returns."""
    try:
        os.setsid()
        if tty:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _take_limits(worker)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606 (no shell is what we want)
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        os.write(2, f"{command[0]}: {'not found' if missing else error.strerror}\n".encode(errors="replace"))
        os._exit(NOT_FOUND if missing else NOT_RUNNABLE)
    except BaseException:
        os._exit(NOT_RUNNABLE)


def _take_limits(worker: int) -> None:
    """Those of the worker, which an agent may have lowered; what cannot be taken over stays as the node's."""
    if not hasattr(resource, "prlimit"):
        return
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            with contextlib.suppress(OSError, ValueError):
                number = getattr(resource, name)
                resource.setrlimit(number, resource.prlimit(worker, number))


def _let_go_of_streams() -> None:
    """So that a reader sees the end of the command's output, and a writer that nobody reads any more."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in _STANDARD:
        os.dup2(nothing, stream)
    os.close(nothing)


def _reap(child: int) -> int | None:
    """Takes note of all that have ended; the exit status of `child` if it was among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _end_all(child: int, news: int) -> None:
    """Ends the command's group, then everything else that came from it; kindly at first."""
    _signal_group(child, signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE_S
    while _children() and (left := deadline - time.monotonic()) > 0:
        select.select((news,), (), (), left)
        with contextlib.suppress(BlockingIOError):
            os.read(news, 4096)
    _signal_group(child, signal.SIGKILL)
    while pids := _children():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)  # what they leave behind is ours now


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _children() -> list[int]:
    """Children of this process that have not ended, orphans that fell to it included. Empty where there is no /proc."""
    _reap(0)
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():  # noqa: PTH112, PTH208 (lean)
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123 (lean)
                # pid (name, which may hold anything) state parent …
                if int(stat.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
    return found


if __name__ == "__main__":
    given = sys.argv
    os._exit(main(int(given[1]), int(given[2]), given[3] == "1", given[4:]))
