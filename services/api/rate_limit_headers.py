"""Tell keys with limits what they may still send: the headers RateLimit-Policy and RateLimit of every answer.

As of draft-ietf-httpapi-ratelimit-headers: ``RateLimit-Policy: "requests";q=60;w=60`` names the limit and its window,
``RateLimit: "requests";r=59;t=42`` what is left of it and the seconds until it begins anew.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visual_memory.services.access.rate_limits import Quota

_UNITS = {"requests": "", "bytes": ';qu="content-bytes"'}
"""The parameter for what is counted, by the name of the limit; requests are the default."""
Headers = list[tuple[bytes, bytes]]


def note_quota(request: Request, quota: Quota | None) -> None:
    """Add the headers of a limit to the answer of a request; and refuse the request if it is over the limit.

    Args:
        request: any request of an authenticated caller.
        quota: after the request or some of its bytes were counted; None: the key has no such limit.

    Raises:
        RateLimited: it is over the limit.
    """
    if quota is not None:
        request.scope["state"].setdefault("quotas", {})[quota.name] = quota
        quota.check()


class RateLimitHeaders:
    """ASGI middleware that adds the headers to answers, whether of success or of an error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start" and (quotas := scope["state"].get("quotas")):
                message["headers"] = [*message.get("headers", []), *_headers(list(quotas.values()))]
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        await self._app(scope, receive, send_with_limits)


def _headers(quotas: Sequence[Quota]) -> Headers:
    policies = (f'"{each.name}";q={each.limit};w={each.window}{_UNITS[each.name]}' for each in quotas)
    left = (f'"{each.name}";r={each.remaining};t={each.reset}' for each in quotas)
    return [(b"ratelimit-policy", ", ".join(policies).encode()), (b"ratelimit", ", ".join(left).encode())]
