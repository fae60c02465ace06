"""The embedded engine: Qdrant Edge in a folder of this machine."""
