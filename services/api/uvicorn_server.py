"""The API's server: uvicorn, which says when it listens."""

import socket

import uvicorn
from fastapi import FastAPI

from visual_memory.services.api.connection_limits import BoundedProtocol
from visual_memory.services.infrastructure.processes.ready_message import send_ready
from visual_memory.services.settings import ApiSettings

GRACE = 10
"""Seconds that it waits for its last answers; the supervisor waits longer."""


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        send_ready()


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
        access_log=False,  # `services.api.request_log` has a line for each
        timeout_graceful_shutdown=GRACE,
    )
    _Server(config).run()
