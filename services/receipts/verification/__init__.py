"""Check receipts, the log, its mirror and the removal records against each other."""
