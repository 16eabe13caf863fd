"""Agents that start processes of their own, and do not look after them."""

from __future__ import annotations

import os
import subprocess

from choregos import Agent, capability

SLEEP = ["sleep", "1000"]


class Parent(Agent):
    @capability("identity")
    async def process(self) -> int:
        return os.getpid()

    @capability("family")
    async def bring_forth(self) -> dict[str, int]:
        """A child, one in a session of its own, and one whose parent has ended; by name, their process ids."""
        return {
            "child": subprocess.Popen(SLEEP).pid,
            "in a session": subprocess.Popen(SLEEP, start_new_session=True).pid,
            "daemon": _daemon(),
        }


def _daemon() -> int:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        child = subprocess.Popen(SLEEP, start_new_session=True)
        os.write(writing, b"%d" % child.pid)
        os._exit(0)
    os.wait()
    number = int(os.read(reading, 32))
    os.close(reading)
    os.close(writing)
    return number
