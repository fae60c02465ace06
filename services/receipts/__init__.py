"""Receipts of removals: signed, chained, checked and mirrored."""
