"""The task queue: Celery over Redis tells the workers what waits; it may lose any message."""
