"""Intake: accept pictures and vectors, store them durably, and remember them."""
