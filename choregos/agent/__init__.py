"""The host on a node: supervises agents and the worker processes they live in. Knows no store and no scheduler."""
