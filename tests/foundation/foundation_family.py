"""A program for the tests of the guard: a family of processes, each detached in another way, written to a file.

    python foundation_family.py FILE

The program plays a node: two workers, each with children. What the file says is a JSON object of names and pids.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SLEEP = ["/bin/sleep", "1000"]


def daemon(environment: dict[str, str]) -> int:
    """A process in a session of its own, whose parent has ended."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        child = subprocess.Popen(SLEEP, env=environment, start_new_session=True)
        os.write(writing, b"%d" % child.pid)
        os._exit(0)
    os.wait()
    return int(os.read(reading, 32))


def work(name: str, pipe: int) -> None:
    """A worker: says what it has started, then waits."""
    own = dict(os.environ)
    pids = {
        f"{name} child": subprocess.Popen(SLEEP).pid,
        f"{name} in a session": subprocess.Popen(SLEEP, start_new_session=True).pid,
        f"{name} daemon": daemon(own),
        f"{name} nameless": daemon({}),
    }
    os.write(pipe, json.dumps(pids).encode())
    time.sleep(1000)


def main(file: Path) -> None:
    pids = {"program": os.getpid()}
    for name in ("ada", "bob"):
        reading, writing = os.pipe()
        environment = {**os.environ, "CHOREGOS_WORKER": name}
        command = [sys.executable, __file__, "work", name, str(writing)]
        pids[name] = subprocess.Popen(command, env=environment, pass_fds=(writing,)).pid
        pids |= json.loads(os.read(reading, 4096))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(pids))
    beside.rename(file)
    while True:
        signal.pause()


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(sys.argv[2], int(sys.argv[3]))
    main(Path(sys.argv[1]))
