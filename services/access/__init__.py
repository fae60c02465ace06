"""Access: who may do what, how often, and who did it."""
