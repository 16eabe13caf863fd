"""One kind, one file: its model, columns and rules. `choregos.resources.registry` lists them.

`parts` and `template` hold what several kinds share; the `*_rules` modules what no single field can tell.
"""
