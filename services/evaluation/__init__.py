"""Measure how well a memory classifies, and report it."""
