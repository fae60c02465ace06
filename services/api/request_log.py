"""Log a line for each request, and answer those that fail with an unexpected error."""

import logging
import re
import time
import uuid
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visual_memory import __version__
from visual_memory.schemas.compatibility import VERSION_HEADER
from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.api.authenticate import Caller
from visual_memory.services.api.error_responses import error_response
from visual_memory.services.infrastructure.observability.json_logs import request_id

SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}")
VERSION = (VERSION_HEADER.lower().encode(), __version__.encode())
GONE = 499
"""The logged status if the client disconnected before it was answered."""

log = logging.getLogger(__name__)


class RequestLog:
    """ASGI middleware that assigns each request an id, returns it as ``X-Request-Id``, and logs the outcome.

    Every answer names the version of the service too, see `VERSION_HEADER`.

    A caller may send the id: 1 to 64 of A-Z a-z 0-9 . _ -. Logged is the route's template instead of the path, which
    contains image ids, and neither query nor headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        identifier = sent if SAFE.fullmatch(sent) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = identifier
        started, status, token = time.perf_counter(), 0, request_id.set(identifier)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", identifier.encode()), VERSION]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = GONE
        except Exception:
            log.exception("unexpected error")
            if status:
                raise
            error = VisualMemoryError("an unexpected error occurred; see the service's log for this X-Request-Id")
            await error_response(error)(scope, receive, send_with_id)
        finally:
            log.info("request", extra=_line(scope, status, time.perf_counter() - started))
            request_id.reset(token)


def _line(scope: Scope, status: int, seconds: float) -> dict[str, Any]:
    caller = scope["state"].get("caller")
    identity = {"key": caller.key.id, "tenant": caller.tenant} if isinstance(caller, Caller) else {}
    route = getattr(scope.get("route"), "path", None)
    return {"method": scope["method"], "route": route, "status": status, "ms": round(seconds * 1e3, 1), **identity}
