"""Commands that people run beside an agent (`kubectl exec`, `cp`): started, fed, read and ended by the agent's node."""
