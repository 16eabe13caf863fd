"""What an API server asks nodes over the bus (`choregos.wire.node`), one module per service.

Each fills a port of `choregos.api.node_ports`; what answers at the node is a method of `choregos.agent.host`, behind an
`answering.Answerer`. Invariant: a node that does not answer costs its asker a time-out, never more.
"""
