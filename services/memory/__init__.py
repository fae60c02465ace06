"""The memory: images of every tenant as points of one collection."""
