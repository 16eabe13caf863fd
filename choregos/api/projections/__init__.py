"""What is stored in one form, shown as API objects of another: agents, Pods, Nodes, metrics. Pure: item in, object out.

Invariant: a projection sees one item and nothing else, so a list or a watch that shows a few of ten thousand agents
makes objects of those few only.
"""
