"""The intake's Redis: its streams, their keys and users."""
