"""Figures, measured side by side with what does the same elsewhere: `python -m benchmarks [fleet|calls|api]`.

Imports nothing, so that the parts that run in the peers' environment load there.
"""
