"""The node's controller: registers the machine, keeps its lease, hands agents to the host, tells how they are.

Runs on every machine that has agents (`NodeController`). Invariants: it acts only on records bound to its own node;
it is the last gate, so the node never holds more than it can allocate, whatever was planned. It starts and stops
nothing itself (`choregos.agent.host` does) and knows nothing of sets and clusters.
"""
