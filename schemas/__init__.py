"""The nouns of Visual Memory: pydantic models and errors, without any I/O."""
