"""The vector database behind one contract: a Qdrant server, or Qdrant Edge embedded on this machine."""
