"""The agents that the benchmarks run."""

from __future__ import annotations

from functools import partial

from benchmarks.timing import PAYLOAD, call_figures, together
from choregos import Agent, capability


class Echo(Agent):
    """Returns what it is given."""

    @capability("echo")
    async def echo(self, payload: bytes) -> bytes:
        return payload


class Driver(Agent):
    """Calls others by name, so that a benchmark's calls come from inside the fleet, as agents' calls do."""

    @capability("drive")
    async def sweep(self, prefix: str, count: int, in_flight: int) -> float:
        """Calls `<prefix>0` to `<prefix><count - 1>` once each; calls per second."""

        async def call(name: str) -> None:
            answer = await self.call(agent=name, method="echo", payload=PAYLOAD)
            if answer != PAYLOAD:
                raise ValueError(f"{name} answered with something else")

        return await together((partial(call, f"{prefix}{n}") for n in range(count)), in_flight)

    @capability("drive")
    async def measure(self, name: str, calls: int, in_flight: int) -> dict[str, object]:
        """See `benchmarks.timing.call_figures`."""
        return await call_figures(lambda: self.call(agent=name, method="echo", payload=PAYLOAD), calls, in_flight)
