"""What `up` says: when everything is ready, and where."""

import time

from rich.console import Console

from services.client import Client
from services.settings import Settings

PAUSE = 0.5


class Announcer:
    """Asks the API now and then whether all is ready, and says so once."""

    def __init__(self, settings: Settings) -> None:
        self._url = f"http://{settings.api.host}:{settings.api.port}"
        self._data = settings.data.absolute()
        self._console = Console(stderr=True)
        self._console.print(f"starting; data and logs are in {self._data}")
        self._ready = False
        self._next = 0.0

    def turn(self) -> None:
        """Ask if it is time to; cheap enough to be called often."""
        if self._ready or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PAUSE
        with Client(self._url, timeout=2) as client:
            self._ready = client.is_ready()
        if self._ready:
            self._console.print(f"ready at {self._url} (the API is described at {self._url}/docs); Ctrl-C stops it")
