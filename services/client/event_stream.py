"""Listen to events: parse the stream, and connect again after the last event for as long as it takes.

Only the first connection may fail as any request does. Later ones are tried again until the service answers, unless it
answers that the caller may not listen.
"""

from collections.abc import Collection
from typing import Any

import httpx
from pydantic import TypeAdapter

from visual_memory.schemas.errors import RateLimited, Unavailable
from visual_memory.schemas.event import Event, EventType
from visual_memory.services.client.error_answers import error_of
from visual_memory.services.client.parse_answer import parse_json

EVENTS = "/v1/events"
EVENT = TypeAdapter(Event)
SILENCE_SECONDS = 45.0
"""The service sends something every 15 s; after this time without, the connection is taken for lost."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
"""Seconds until the next try, doubled from the first to the longest."""


class EventStream:
    """One iteration over events, and where it is.

    Args:
        types: of the events; empty: all.
        cursor: of the last event that was received; None: from now on.
    """

    def __init__(self, types: Collection[EventType | str], cursor: str | None) -> None:
        self._types, self._cursor = types, cursor
        self._pause, self._was_connected = FIRST_PAUSE, False
        self._data: list[str] = []
        self._id = cursor

    def options(self, timeout: httpx.Timeout) -> dict[str, Any]:
        """Options of `httpx.Client.stream` for the next connection."""
        self._data, self._id = [], self._cursor
        return {
            "headers": {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._cursor} if self._cursor else {}),
            "params": {"types": ",".join(sorted(self._types))} if self._types else {},
            "timeout": httpx.Timeout(**{**timeout.as_dict(), "read": SILENCE_SECONDS}),
        }

    def check(self, answer: httpx.Response) -> None:
        """Check that an answer is the stream; an error must have been read.

        Raises:
            VisualMemoryError: it is an error.
        """
        if answer.is_error:
            raise error_of(answer)
        self._pause, self._was_connected = FIRST_PAUSE, True

    def event(self, line: str) -> Event | None:
        """The event that ends with this line of the stream, if one does."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                self._id = value
            case "data":
                self._data.append(value)
            case "" if not line:
                self._cursor = self._id
                text, self._data = "\n".join(self._data), []
                return parse_json(EVENT, text) if text else None
        return None

    def pause_after_end(self) -> float:
        """Seconds until the next try after the service has ended the stream, as it does when it stops."""
        return self._pause

    def pause_after(self, error: Exception) -> float:
        """Seconds until the next try.

        Raises:
            VisualMemoryError: the caller may not listen, or nothing answered yet.
        """
        if isinstance(error, httpx.TransportError):
            error = Unavailable(f"no events are received ({error or type(error).__name__})")
        if not (self._was_connected and isinstance(error, RateLimited | Unavailable)):
            raise error
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return max(pause, getattr(error, "retry_after", 0))
