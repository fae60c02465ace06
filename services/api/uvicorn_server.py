"""Serve the API with uvicorn, and send the ready message when it listens."""

import socket

import uvicorn
from fastapi import FastAPI

from visual_memory.services.api.connection_limits import BoundedProtocol
from visual_memory.services.infrastructure.events.event_listeners import EventListeners
from visual_memory.services.infrastructure.processes.ready_message import send_ready
from visual_memory.services.settings import ApiSettings

SHUTDOWN_SECONDS = 10
"""Time for the last answers at shutdown; the supervisor waits longer."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, event_listeners: EventListeners) -> None:
        super().__init__(config)
        self._event_listeners = event_listeners

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and send the ready message."""
        await super().startup(sockets)
        send_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of events, which have no end of their own, then shut down."""
        self._event_listeners.end_all()
        await super().shutdown(sockets)


def serve(app: FastAPI, settings: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SystemExit: it cannot listen; the log says why.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,  # `services.api.request_log` logs each request
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    _Server(config, app.state.event_listeners).run()
