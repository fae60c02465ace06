"""The embedded engine: Qdrant Edge in a folder of this machine, held by one process that all others ask."""
