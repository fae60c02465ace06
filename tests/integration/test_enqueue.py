"""A Redis that hangs: nobody waits for it long, nor often."""

import socket

import pytest

from services.infrastructure.task_queue import enqueue as module
from services.infrastructure.task_queue.celery_app import make_celery
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.settings import WorkerSettings


def test_a_broker_that_failed_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        silent.setblocking(False)
        queue = TaskQueue(make_celery(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", WorkerSettings()), bytes(32))
        assert not queue.enqueue("default", ["one"])
        silent.accept()[0].close()
        assert not queue.enqueue("default", ["two"])
        with pytest.raises(BlockingIOError):
            silent.accept()
        monkeypatch.setattr(queue, "_retry_at", 0.0)
        assert not queue.enqueue("default", ["three"])
        silent.accept()[0].close()
