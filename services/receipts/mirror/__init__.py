"""The mirror: a copy of the log of receipts, and of the digests of what was removed, outside the data folder."""
