"""The measures of an evaluation, one per file."""
