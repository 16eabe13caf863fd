"""The cycle collector of services, in a process of its own: what it does is for the whole process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

HEAD = """
import asyncio, gc, weakref
from choregos.assembly.services.garbage import THAW_PERIOD_S, collect_all_regularly, leave_survivors_alone

class Knot:
    def __init__(self):
        self.itself = self

leave_survivors_alone()
leave_survivors_alone()
"""


def said(script: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_survivors_are_not_looked_at_again_and_what_is_new_is_collected():
    frozen, looked_at, gone = said("""
    held = [[n] for n in range(50_000)]
    gc.collect()
    print(gc.get_freeze_count() > 50_000)
    print(len(gc.get_objects()))
    knot = weakref.ref(Knot())
    gc.collect()
    print(knot() is None)
    """)
    assert (frozen, gone) == ("True", "True")
    assert int(looked_at) < 5_000


def test_a_knot_that_had_survived_is_found_within_the_hour():
    before, after = said("""
    from choregos.testing.sim_clock import SimClock

    async def main():
        knot = Knot()
        gone = weakref.ref(knot)
        gc.collect()
        del knot
        gc.collect()
        print(gone() is None)
        clock = SimClock()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(collect_all_regularly(clock))
            await clock.advance(THAW_PERIOD_S + 1)
            print(gone() is None)
            task.cancel()

    asyncio.run(main())
    """)
    assert (before, after) == ("False", "True")
