"""Leases on subjects of a log: who leads, and who is alive."""
