"""What is measured in a process of its own: each module is a program spoken to in lines (`benchmarks.lines`).

Those of the peers run on the peers' interpreter: nothing here imports choregos unless its name says so.
"""
