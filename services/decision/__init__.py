"""Votes: pure functions from neighbours to a decision, without I/O."""
