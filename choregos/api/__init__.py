"""The API server: Kubernetes' API conventions over the two planes, for kubectl and every client that speaks them.

`server.build_app` makes the ASGI application of an `ApiContext`, `serve.serve` puts it on a TLS socket. One request is
one line of work: `access` says who and whether, `rules.paths` what is meant, `bodies` reads what was sent, `fairness`
says when, `sources` and `projections` read, `quotas` bounds, `handlers` act and watch, `apply` keeps who owns
which field; `sockets` is for what goes on both ways. What needs no clock and no I/O is in `rules` and `apply`.
"""
