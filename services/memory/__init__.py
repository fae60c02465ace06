"""The memory: points behind one contract (Qdrant server, Qdrant Edge), and pictures and records as blobs."""
