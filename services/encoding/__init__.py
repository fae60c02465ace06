"""Embed pictures as unit vectors."""
