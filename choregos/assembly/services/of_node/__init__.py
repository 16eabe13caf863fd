"""What an API server asks nodes over the bus, one module per question: the asker's side and the node's side of each.

Each side fills a port of the layer it serves (`choregos.api.context`, `choregos.agent.host`); here is only the way
between them (`choregos.wire.node`). Invariant: a node that does not answer costs its asker a time-out, never more.
"""
