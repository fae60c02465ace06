"""Bytes on disk or in an object store: where they lie, and how they become durable."""
