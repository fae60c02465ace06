"""Curate a memory: check labels, list suspects, mute, unmute and relabel images."""
