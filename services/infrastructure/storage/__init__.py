"""Bytes on disk or in an object store: paths, free space, durable writes."""
