"""Versioned records: what is stored on a stream or sent between processes. Data only.

Every record begins with its version `v`. Readers accept one version below and one above their own (unknown
trailing fields of an array-like struct are ignored); writers emit the lowest version that all live nodes announce.
"""
