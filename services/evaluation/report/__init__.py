"""Render an evaluation as HTML, JSON and plots."""
