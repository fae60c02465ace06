"""Send events to a tenant's stream; wait while the server is unreachable or full."""

import threading
from collections.abc import Callable

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, ReadOnlyError

from visual_memory.schemas.errors import InvalidRequest

FIRST_PAUSE = 0.5
MAX_PAUSE = 30.0
READ_ONLY_ERROR = "MISCONF"
"""Prefix of the error of a server that cannot write to its disk."""


class StreamSender:
    """Sends with XADD, the only command that a sending user may run.

    Args:
        server: the intake's Redis.
        stream: name of the stream.
        on_wait: called with a message when it starts to wait.
        stopped: once set, it stops waiting.
    """

    def __init__(
        self, server: "redis.Redis", stream: str, on_wait: Callable[[str], object], stopped: threading.Event
    ) -> None:
        self._server = server
        self._stream = stream
        self._on_wait = on_wait
        self._stopped = stopped

    def send(self, event: bytes) -> str | None:
        """Send an event, and return the id of its entry; None if it was stopped before.

        The stream may have it twice if the connection broke.

        Raises:
            InvalidRequest: this user may not send to the stream.
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
                fault = f"the intake refuses entries ({error})"
            except redis.ResponseError as error:
                if not str(error).startswith(READ_ONLY_ERROR):
                    raise InvalidRequest(f"the intake refuses the event: {error}") from None
                fault = f"the intake refuses entries ({error})"
            else:
                return entry.decode() if isinstance(entry, bytes) else str(entry)
            if not waits:
                self._on_wait(f"{fault}: sending is retried")
            waits = True
            self._stopped.wait(pause)
            pause = min(2 * pause, MAX_PAUSE)
        return None
