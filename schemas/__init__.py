"""Data models and errors: pydantic classes without I/O."""
