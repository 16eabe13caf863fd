"""What agent authors import: `Agent`, `capability`, and the errors a call can raise. Imports nothing heavy."""

from choregos.sdk.agent import Agent
from choregos.sdk.capability import capability
from choregos.sdk.context import AgentContext

__all__ = ["Agent", "AgentContext", "capability"]
