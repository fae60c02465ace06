"""Build objects from settings, one concern in each module."""
