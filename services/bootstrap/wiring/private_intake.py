"""The intake's private Redis for as long as a command runs, where no service does."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.bootstrap.wiring.wire_intake import intake_password, streams_of
from visual_memory.services.infrastructure.processes.private_redis import intake_command, prepare_intake
from visual_memory.services.infrastructure.processes.supervisor import Child, stop
from visual_memory.services.infrastructure.storage.data_paths import Places
from visual_memory.services.settings import Settings

LONGEST_START = 60.0
"""Seconds in which a server must have read its log."""
POLL = 0.05


@contextmanager
def private_intake(settings: Settings) -> Iterator[None]:
    """Run it, where this machine has one; the caller knows that no service runs.

    Raises:
        Unavailable: it does not start.
    """
    places = Places(settings.data)
    if settings.intake.url is not None or not places.intake.exists():
        yield
        return
    prepare_intake(places, intake_password(settings))
    places.logs.mkdir(parents=True, exist_ok=True)
    child = Child("intake-redis", intake_command(places, settings.intake), places.logs / "intake-redis.log")
    child.start()
    try:
        _wait(settings, child)
        yield
    finally:
        stop([child])


def _wait(settings: Settings, child: Child) -> None:
    streams, waited = streams_of(settings), 0.0
    try:
        while True:
            try:
                streams.ping()
            except Unavailable:
                if waited > LONGEST_START or child.process is None or child.process.poll() is not None:
                    raise Unavailable(f"the intake's Redis does not start: see {child.log}") from None
                time.sleep(POLL)
                waited += POLL
            else:
                return
    finally:
        streams.close()
