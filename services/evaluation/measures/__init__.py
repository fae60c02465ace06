"""The measures of an evaluation, a file each."""
