"""The composition root: the only place that knows every part and every backend.

`commands` are what the command line calls, `session` and `demo` two of them; `machine` prepares one machine and keeps
its processes running; `services` puts each of these processes together. Nothing imports this package but
`choregos.__main__`.
"""
