"""The composition root: the only place that knows every part and every backend.

`commands` are what the command line calls; `up` supervises the processes of one machine, `control` and `node` are
what runs in two of them, `demo` is the guided tour. Nothing imports this package but `choregos.__main__`.
"""
