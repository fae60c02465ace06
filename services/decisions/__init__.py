"""Stored decisions: kept, explained, and scrubbed of what was removed."""
