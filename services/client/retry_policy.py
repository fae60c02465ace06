"""Decide after each answer whether a request is sent again, and after which pause."""

import httpx

from visual_memory.schemas.errors import BeingRemoved, RateLimited, RequestRunning, Unavailable
from visual_memory.services.client.error_answers import GATEWAY_ERRORS, error_of

TRIES = 5
FIRST_PAUSE = 0.4
RETRIED = GATEWAY_ERRORS | {429}
"""After these statuses nothing was done, or what was done may be done twice."""


class RetryPolicy:
    """The tries of one request.

    Args:
        url: the address of the service, for messages.
        tries: the maximum number of times that the request is sent; with one, no answer raises.
    """

    def __init__(self, url: str, tries: int = TRIES) -> None:
        self._url, self._tries, self._sent = url, tries, 0

    def pause_after(self, answer: httpx.Response) -> float | None:
        """Seconds until the request is sent again; None where the answer counts.

        Raises:
            VisualMemoryError: the answer is an error, and the request is not sent again.
        """
        if not answer.is_error or self._tries == 1:
            return None
        pause = self._next_pause()
        error = error_of(answer)
        if pause is None or not (answer.status_code in RETRIED or isinstance(error, BeingRemoved | RequestRunning)):
            raise error
        named = isinstance(error, RateLimited | BeingRemoved | RequestRunning)
        return error.retry_after if named else pause

    def pause_after_failure(self, error: httpx.TransportError) -> float:
        """Seconds until the request is sent again, after a refused connection: nothing was sent.

        Raises:
            Unavailable: it was the last try, or the request may have been received.
        """
        pause = self._next_pause()
        if pause is None or not isinstance(error, httpx.ConnectError):
            raise Unavailable(f"nothing answers at {self._url} ({error or type(error).__name__})") from None
        return pause

    def _next_pause(self) -> float | None:
        self._sent += 1
        return None if self._sent == self._tries else FIRST_PAUSE * 2 ** (self._sent - 1)
