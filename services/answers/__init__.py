"""Answers: from a picture to a decision, and whatever is asked about a decision afterwards."""
