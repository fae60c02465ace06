"""The Redis of the intake: its streams, their keys and users."""
