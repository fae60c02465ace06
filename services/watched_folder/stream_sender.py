"""Puts events on a tenant's stream; waits while the server is away or full."""

import threading
from collections.abc import Callable

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, ReadOnlyError

from visual_memory.schemas.errors import InvalidRequest

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
CANNOT_WRITE = "MISCONF"
"""How an answer begins of a server that cannot write to its disk."""


class StreamSender:
    """Sends with XADD alone, so that a user who may do nothing else can send.

    Args:
        server: the intake's Redis.
        stream: the name of the stream.
        told: called with a sentence when it begins to wait.
        stopped: once set, it waits no more.
    """

    def __init__(
        self, server: "redis.Redis", stream: str, told: Callable[[str], object], stopped: threading.Event
    ) -> None:
        self._server = server
        self._stream = stream
        self._told = told
        self._stopped = stopped

    def send(self, event: bytes) -> str | None:
        """Put an event on the stream, and return the id of its entry; None where it was stopped before.

        It may come onto the stream twice, where the connection broke.

        Raises:
            InvalidRequest: the server does not let this user send there.
        """
        pause, waits = FIRST_PAUSE, False
        while not self._stopped.is_set():
            try:
                entry = self._server.xadd(self._stream, {"event": event})
            except (AuthenticationError, NoPermissionError) as error:
                raise InvalidRequest(f"the intake does not let this user send to {self._stream}: {error}") from None
            except (redis.ConnectionError, redis.TimeoutError) as error:
                fault = f"the intake does not answer ({error})"
            except (OutOfMemoryError, ReadOnlyError) as error:
                fault = f"the intake takes nothing ({error})"
            except redis.ResponseError as error:
                if not str(error).startswith(CANNOT_WRITE):
                    raise InvalidRequest(f"the intake refuses the event: {error}") from None
                fault = f"the intake takes nothing ({error})"
            else:
                return entry.decode() if isinstance(entry, bytes) else str(entry)
            if not waits:
                self._told(f"{fault}: it is tried again until it takes more")
            waits = True
            self._stopped.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return None
