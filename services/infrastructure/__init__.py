"""Infrastructure: records, storage, the task queue, Redis streams, processes and observability."""
