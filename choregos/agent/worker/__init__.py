"""The process that runs agents: `python -m choregos.agent.worker`. Knows its node by a socket, and no store."""
