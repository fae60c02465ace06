"""A removal from request to receipt: mark, note, delete, verify, seal."""
