"""A copy of what was removed on another disk or in an object store."""
