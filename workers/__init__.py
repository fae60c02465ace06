"""The Celery app and its tasks: thin, over the use cases."""
