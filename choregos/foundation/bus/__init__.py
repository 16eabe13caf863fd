"""nats-server, the bus between processes: where it is, and a connection to it."""
