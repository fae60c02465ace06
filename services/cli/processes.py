"""The processes: each can be run by itself; `up` starts what one machine needs.

What a process makes while it starts stays, so the garbage collector rests until it is ready: it would take a fifth of
the time. Whoever has made it ready freezes what is there and lets the collector go on.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from services.cli.common import errors, fail, read_settings
from services.runtime import cores

GRACE = 10
"""Seconds that the API waits for its last answers; the supervisor waits longer."""
SELDOM = 10_000
"""New objects before the collector looks for cycles: a request makes hundreds, and next to none of them in a cycle."""


def up() -> None:
    """Start everything on this machine (API, worker, Redis, engine) and keep it alive until Ctrl-C."""
    from services.cli.announce import Announcer
    from services.cli.keys import make_first
    from services.runtime.supervisor import AlreadyRunning, run

    settings = read_settings()
    with errors():
        make_first(settings)
        try:
            run(settings, Announcer(settings).turn)
        except AlreadyRunning as error:
            fail(str(error))


def api() -> None:
    """Serve the HTTP API (one of the processes that `up` starts)."""
    gc.disable()
    cores.settle()
    import uvicorn

    from services.api.app import create_app
    from services.api.protocol import BoundedProtocol
    from services.bootstrap.api_process import ApiProcess, api_process
    from services.runtime import logs, metrics
    from services.settings import Settings

    settings = read_settings()
    logs.configure("api")
    if settings.api.metrics_port is not None:
        metrics.serve(settings.api.metrics_port)

    @contextmanager
    def wire(settings: Settings) -> Iterator[ApiProcess]:
        with api_process(settings) as process:
            gc.freeze()
            gc.set_threshold(SELDOM)
            gc.enable()
            yield process

    uvicorn.run(
        create_app(settings, wire),
        host=settings.api.host,
        port=settings.api.port,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,  # `services.api.request_log` has a line for each
        timeout_graceful_shutdown=GRACE,
    )


def worker() -> None:
    """Remember what waits: a Celery worker (one of the processes that `up` starts)."""
    gc.disable()
    cores.settle()
    from services.runtime import logs

    read_settings()
    logs.configure("worker")
    from workers.app import work

    work()


def beat() -> None:
    """Ring for the sweeper at its times: Celery beat (one of the processes that `up` starts)."""
    from services.bootstrap.wire_task_queue import celery_of
    from services.runtime import logs

    settings = read_settings()
    logs.configure("beat")
    celery_of(settings).Beat(scheduler_cls="celery.beat:Scheduler", loglevel="WARNING", quiet=True).run()


def engine() -> None:
    """Own the embedded Qdrant engine (one of the processes that `up` starts)."""
    gc.disable()
    from services.memory.embedded.owner import serve
    from services.runtime import logs
    from services.runtime.places import Places

    settings = read_settings()
    places = Places(settings.data)
    logs.configure("engine")
    serve(places.engine, places.engine_socket, settings.store.min_free_bytes)
