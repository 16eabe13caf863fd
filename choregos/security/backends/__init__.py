"""Backends of the audit port: a rotated file, and memory for tests."""
