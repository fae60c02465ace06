"""Curation: the memory judged by itself, and what is done about it."""
