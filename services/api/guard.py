"""The guard: who calls, whether they may, and how often, is settled before a byte of the body is read."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from schemas.errors import Forbidden
from schemas.key import Scope
from services.api.caller import identify
from services.api.limits import Meter

OPEN = {"/healthz", "/readyz"}
"""The only routes that answer without a key; they say nothing of any tenant."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_needed: dict[Callable[..., Any], Scope] = {}


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Say which scope a route needs: the decorator right above the function."""

    def mark(endpoint: Endpoint) -> Endpoint:
        _needed[endpoint] = scope
        return endpoint

    return mark


class GuardedRoute(APIRoute):
    """A route that answers only to keys with the scope that it needs.

    Raises:
        LookupError: it does not say which.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:
        if endpoint not in _needed:
            raise LookupError(f"{path} says nothing of the scope that it needs: put @needs(...) above its function")
        super().__init__(path, endpoint, **given)
        self.description += f"\n\nNeeds a key with the scope `{_needed[endpoint]}`."

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request: the guard, then the route."""
        answer, scope = super().get_route_handler(), _needed[self.endpoint]

        async def guarded(request: Request) -> Response:
            caller = await identify(request)
            rates = caller.service.rates
            await rates.take_request(caller.key)
            if not caller.key.may(scope):
                raise Forbidden(f"this needs a key with the scope {scope}; this one has {', '.join(caller.key.scopes)}")
            meter = Meter(request.receive, partial(rates.take_bytes, caller.key))
            try:
                return await answer(Request(request.scope, meter))
            except HTTPException as error:  # FastAPI makes one of whatever goes wrong while it reads a body
                raise meter.fault or error from None

        return guarded


def check_guarded(router: APIRouter) -> None:
    """Return if every route of a router is guarded, or meant to be open.

    Raises:
        LookupError: one is neither.
    """
    for route in router.routes:
        path = getattr(route, "path", None)
        if not isinstance(route, GuardedRoute) and path not in OPEN:
            raise LookupError(f"{path} would answer without a key: give its router route_class=GuardedRoute")
