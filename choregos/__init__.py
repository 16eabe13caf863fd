"""choregos: a control plane and runtime for fleets of AI agents.

Agent authors need `Agent` and `capability`, clients `Client` or `SyncClient`. Names are loaded when they are first
used, so that a worker process imports nothing it does not need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from choregos.client import Client, SyncClient
    from choregos.foundation import errors
    from choregos.sdk import Agent, capability

__all__ = ["Agent", "Client", "SyncClient", "capability", "errors"]

_HOMES = {
    "Agent": "choregos.sdk",
    "Client": "choregos.client",
    "SyncClient": "choregos.client",
    "capability": "choregos.sdk",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("choregos.foundation.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'choregos' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
