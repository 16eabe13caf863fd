"""Backends of the port in `choregos.messaging.transport`; only assembly and testing name them."""
