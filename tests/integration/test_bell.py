"""The bell over a Redis that hangs: nobody waits for it long, nor often."""

import socket

import pytest

from services.runtime import bell as module
from services.runtime.bell import Bell, make_celery
from services.settings import WorkerSettings


def test_a_bell_that_failed_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        silent.setblocking(False)
        bell = Bell(make_celery(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", WorkerSettings()), bytes(32))
        assert not bell.ring("default", ["one"])
        silent.accept()[0].close()
        assert not bell.ring("default", ["two"])
        with pytest.raises(BlockingIOError):
            silent.accept()
        monkeypatch.setattr(bell, "_quiet_until", 0.0)
        assert not bell.ring("default", ["three"])
        silent.accept()[0].close()
