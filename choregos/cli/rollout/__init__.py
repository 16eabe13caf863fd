"""`choregos rollout`: what kubectl does for its own workloads and for no custom kind.

Status, history, undo, restart, pause and resume of AgentSets, and of AgentClusters as of all their sets. Everything is
read and written through the public API, with the resourceVersion that was read where something could get lost.
"""
