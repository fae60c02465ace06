"""The routes, one kind of resource per file."""
