"""Calls between processes: the port to the bus, the server of an agent's host, and how one method is run."""
