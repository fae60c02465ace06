"""Builds objects from settings, one concern a module."""
