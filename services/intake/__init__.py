"""Intake: from bytes to a durable point that waits, and from there to a vector."""
