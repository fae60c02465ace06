"""A line in the log for each request, and an answer to those that failed inside."""

import logging
import re
import time
import uuid
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.api.authenticate import Caller
from visual_memory.services.api.error_responses import answer
from visual_memory.services.infrastructure.observability.json_logs import request_id

SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}")
GONE = 499
"""What the log says where the client went away before it was answered."""

log = logging.getLogger(__name__)


class RequestLog:
    """ASGI middleware: names each request, answers its name as ``X-Request-Id``, and logs how it went.

    A caller may bring the name, of 1 to 64 of A-Z a-z 0-9 . _ -. The log has the route's template instead of the path,
    which holds ids of images, and neither query nor headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        named = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        name = named if SAFE.fullmatch(named) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = name
        begun, status, token = time.perf_counter(), 0, request_id.set(name)

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, answering)
        except ClientDisconnect:
            status = GONE
        except Exception:
            log.exception("failed inside")
            if status:
                raise
            error = VisualMemoryError("something failed inside; the service's log says what, under this X-Request-Id")
            await answer(error)(scope, receive, answering)
        finally:
            log.info("request", extra=_line(scope, status, time.perf_counter() - begun))
            request_id.reset(token)


def _line(scope: Scope, status: int, seconds: float) -> dict[str, Any]:
    caller = scope["state"].get("caller")
    who = {"key": caller.key.id, "tenant": caller.tenant} if isinstance(caller, Caller) else {}
    route = getattr(scope.get("route"), "path", None)
    return {"method": scope["method"], "route": route, "status": status, "ms": round(seconds * 1e3, 1), **who}
