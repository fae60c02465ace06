"""The routes, one kind of resource a file."""
