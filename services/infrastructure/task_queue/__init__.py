"""The task queue: Celery over Redis tells workers which tenants have work; messages may be lost."""
