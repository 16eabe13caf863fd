"""Kinds of Kubernetes under which ours are shown to its clients: made when they are asked for, never stored."""
