"""The command line: `choregos get`, `apply`, `call`, `doctor`, … as a client of the API.

Owns what people and scripts see: arguments, tables, exit codes, one readable paragraph per error. Results go to
stdout, talk to stderr. Imports are lazy: a command pays for what it uses. Does not start servers: those commands
are `choregos.assembly`'s, registered by `choregos.__main__`.
"""
