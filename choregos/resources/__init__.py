"""What can be declared and observed: kinds, their validation and schemas, and the grammar of objects. Pure.

Owns everything that can be said of an object without asking anybody: is it right, what does it default to, which
others does it ask for, what does a selector mean. No clock, no ids, no I/O: those are arguments.
"""
