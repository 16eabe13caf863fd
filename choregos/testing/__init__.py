"""What choregos offers to tests, its own and its users': loaded when first used, so that each costs only itself."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from choregos.testing.agents import AgentHarness
    from choregos.testing.nats_server import NatsServer
    from choregos.testing.sim_clock import SimClock

__all__ = ["AgentHarness", "NatsServer", "SimClock"]

_HOMES = {"AgentHarness": "agents", "NatsServer": "nats_server", "SimClock": "sim_clock"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
