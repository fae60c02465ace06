"""Pixels to unit vectors: encoders, and batches that their callers share."""
