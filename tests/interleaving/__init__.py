"""Interleavings of real code: every actor stops before each of its writes, and a test says who goes on."""
