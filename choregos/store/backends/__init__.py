"""Where a record log can be kept: in JetStream, and in memory for tests and simulations."""
