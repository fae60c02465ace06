"""Forgetting: removals with their records, log and proof; what erases, keeps out, expires, backs up and restores."""
