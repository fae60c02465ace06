"""Classify every image of a memory by the others, and store what that found."""
