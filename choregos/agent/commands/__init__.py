"""Commands that people run beside an agent (`kubectl exec`, `cp`), and connections to its ports (`port-forward`):
started, fed, read and ended by the agent's node."""
