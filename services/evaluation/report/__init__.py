"""The report of an evaluation: HTML, JSON, plots."""
