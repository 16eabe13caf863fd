"""On the event loop of production: whatever is killed, and however often, all agents come back."""

from __future__ import annotations

import os
import signal

import pytest
import uvloop

from choregos.foundation.backoff import Backoff

pytestmark = pytest.mark.real

AGENTS = 200
KILLS = 20
SCATTERED = Backoff(initial_s=0.1, max_s=0.4, jitter=0.5)


def test_all_agents_come_back_each_time_a_worker_is_killed(stages, sample):
    names = [f"a{number}" for number in range(AGENTS)]

    async def kill_and_wait() -> None:
        async with stages() as open_stage, open_stage(workers=2, restart=SCATTERED) as stage:
            stage.assign(sample("Greeter"), *names)
            await stage.until_running(*names)
            for _ in range(KILLS):
                victim = stage.statuses[names[0]].host
                lost = {name for name in names if stage.statuses[name].host == victim}
                restarts = {name: stage.statuses[name].restarts for name in lost}
                os.kill(await stage.call(names[0], "process"), signal.SIGKILL)
                await stage.until(
                    lambda: all(stage.is_running(name, restarts[name] + 1) for name in lost)  # noqa: B023
                )
            assert all(stage.is_running(name) for name in names)

    # Its clock lags behind the machine's by what a turn of the loop takes; asyncio's own does not.
    uvloop.run(kill_and_wait())
