"""A region's controllers: sets become agents, agents get nodes, silent nodes lose them.

One leader per region runs them (`RegionController`). Invariant: every write carries the fence of the leader's term,
and no plan puts more on a node than it can allocate. They read declarative objects and the region's directory, and
know nothing of clusters beyond labels, nor of how a node runs agents.
"""
