"""Evaluation: from vectors and labels to numbers, plots and a folder with a report."""
