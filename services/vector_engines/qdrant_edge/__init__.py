"""The embedded engine: Qdrant Edge in a local folder."""
