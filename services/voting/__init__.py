"""From neighbours to a decision: pure functions without I/O."""
