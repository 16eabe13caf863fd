"""Decides where agents go, how a set is replaced step by step, and which of its templates are remembered: pure
functions from a snapshot to a plan.

Owns the filters, scores and arithmetic of placement and rollout, and the numbers of revisions. Invariant: the same
snapshot and the same requests give the same plan, and no plan puts more on a node than it can allocate. Does not read
stores, write bindings or know the time: `choregos.control.region` makes snapshots and applies plans.
"""
