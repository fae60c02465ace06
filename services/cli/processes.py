"""The processes: each can be run by itself; `up` starts what one machine needs."""

import logging
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from services.settings import Settings


def up() -> None:
    """Start everything on this machine (API, worker, Redis, engine) and keep it alive until Ctrl-C."""
    from services.cli.announce import Announcer
    from services.supervisor import AlreadyRunning, run

    settings = _settings()
    try:
        run(settings, Announcer(settings).turn)
    except (AlreadyRunning, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def api() -> None:
    """Serve the HTTP API (one of the processes that `up` starts)."""
    import uvicorn

    from services.api.app import create_app
    from services.bootstrap import bootstrap

    settings = _settings()
    _log()
    uvicorn.run(create_app(settings, bootstrap), host=settings.api.host, port=settings.api.port, log_config=None)


def worker() -> None:
    """Remember what waits: a Celery worker (one of the processes that `up` starts)."""
    _settings()
    _log()
    from workers.app import app

    app.worker_main(["worker", "--pool", "threads", "--without-gossip", "--without-mingle", "--loglevel", "INFO"])


def beat() -> None:
    """Ring for the sweeper at its times: Celery beat (one of the processes that `up` starts)."""
    settings = _settings()
    _log()
    from services.bootstrap import celery_of

    celery_of(settings).Beat(scheduler_cls="celery.beat:Scheduler", loglevel="WARNING", quiet=True).run()


def engine() -> None:
    """Own the embedded Qdrant engine (one of the processes that `up` starts)."""
    from services.memory.owner import serve
    from services.places import Places

    settings = _settings()
    places = Places(settings.data)
    _log()
    serve(places.engine, places.engine_socket, settings.store.min_free_bytes)


def _settings() -> "Settings":
    """The settings, or a sentence that says what to change."""
    from tomllib import TOMLDecodeError

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from schemas.errors import sentence
    from services.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        faults = [sentence(fault["loc"], fault["msg"]) for fault in error.errors()]
    except TOMLDecodeError as error:
        faults = [f"the file of settings is not TOML: {error}"]
    except SettingsError as error:  # a file that is not there, or a value that should be JSON and is not
        faults = [f"{error}: write it as JSON" if error.__cause__ else str(error)]
    for fault in faults:
        typer.echo(f"settings: {fault}", err=True)
    raise typer.Exit(2)


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    for noisy in ("httpx", "sentence_transformers", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
