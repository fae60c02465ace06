"""Classify pictures and vectors."""
