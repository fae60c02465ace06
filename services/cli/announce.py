"""What `up` says: when everything is ready, and where."""

import time

import typer

from services.settings import Settings

PAUSE = 0.5


class Announcer:
    """Asks the API now and then whether all is ready, and says so once."""

    def __init__(self, settings: Settings) -> None:
        self._url = f"http://{settings.api.host}:{settings.api.port}"
        self._data = settings.data.absolute()
        typer.echo(f"starting; data and logs are in {self._data}", err=True)
        self._ready = False
        self._next = 0.0

    def turn(self) -> None:
        """Ask if it is time to; cheap enough to be called often."""
        if self._ready or time.monotonic() < self._next:
            return
        from services.client import Client  # once the processes are on their way

        self._next = time.monotonic() + PAUSE
        with Client(self._url, timeout=2) as client:
            self._ready = client.is_ready()
        if self._ready:
            typer.echo(f"ready at {self._url} (the API is described at {self._url}/docs); Ctrl-C stops it", err=True)
