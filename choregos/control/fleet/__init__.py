"""The fleet's controllers: clusters become sets, owners take their dependents with them, namespaces are
emptied and have an account, quotas say what is used of them, default roles stay as they are meant.

One leader per fleet runs them (`FleetController`). Invariant: every write carries the fence of the leader's term,
but the deletion of events, whose log knows no leaders.
They know regions only by name: what a region makes of a set they read from its status.
"""
