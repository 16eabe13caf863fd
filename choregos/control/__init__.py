"""The control loops: fleet, region and node make what is match what is declared.

Owns the work queue and the reconciling loop that all three share. Invariant: `fleet`, `region` and `node` never
import one another; they meet in stored records only. Does not store, schedule or run agents itself: it uses
`choregos.store`, `choregos.scheduling` and `choregos.agent`.
"""
