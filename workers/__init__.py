"""Celery workers and their tasks, which call one use case each."""
