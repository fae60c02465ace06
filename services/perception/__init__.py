"""Pixels to a unit vector: safe decoding, encoders, micro-batching."""
