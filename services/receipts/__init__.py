"""Signed receipts of removals: the log that chains them, and its mirror in a second place."""
