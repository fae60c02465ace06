"""Processes of one machine, and what their threads share."""
