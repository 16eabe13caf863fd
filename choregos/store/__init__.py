"""Storage: one port (`port.RecordLog`), and two read models over it: `resources` (declarative objects) and
`directory` (instances). Leadership (`leases`) lives in the same logs that it protects."""
