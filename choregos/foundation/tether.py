"""Ties a process's life to its parent's: when the parent dies, however it dies, the kernel kills the child.

Linux only (`PR_SET_PDEATHSIG`, prctl(2)); elsewhere `die_with_parent` does nothing and says so by returning False.
The setting survives `exec`, so a program that is not ours is started through this file:

    python -S -E tether.py PARENT_PID program argument …

It imports nothing of choregos and little of the library, so that it costs a few milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> bool:
    """Asks the kernel to kill this process with SIGKILL when its parent ends.

    Ends the process at once if the parent is gone already: the request would come too late to be noticed.

    Args:
        parent_pid: who started us, as that process knew itself.

    Returns:
        Whether the platform can do it.
    """
    if not sys.platform.startswith("linux"):
        return False
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        os._exit(128 + signal.SIGKILL)
    return True


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 (no shell is what we want)
