"""The guard: who calls, whether they may, and how often, is settled before a byte of the body is read."""

from collections.abc import Callable, Coroutine, MutableMapping
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import Forbidden, InvalidRequest
from visual_memory.schemas.strict_json import read_json
from visual_memory.services.api.admission_control import PART, Visit
from visual_memory.services.api.authenticate import Caller, identify
from visual_memory.services.api.request_body import Body

MOST_PLAIN = 2**20
"""Longest body of a route that takes no pictures: JSON, and what is wrong with it, take up to 100 times its length."""
NOT_JSON = "the body cannot be read: send JSON in UTF-8, not nested deeply, of numbers that are not long"
OPEN = {"/healthz", "/readyz"}
"""The only routes that answer without a key; they say nothing of any tenant."""

SECURITY = {"HTTPBearer": {"type": "http", "scheme": "bearer"}}
"""How requests show their key, as OpenAPI says it."""

ANY = frozenset(Scope)
"""What needs a key, whatever that may do."""
SEES_CLASSES = frozenset({Scope.CLASSIFY, Scope.READ})
"""What says how classes do, and of images their ids and labels at most, as a classification does."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_needed: dict[Callable[..., Any], frozenset[Scope]] = {}


def needs(scope: Scope | frozenset[Scope]) -> Callable[[Endpoint], Endpoint]:
    """Say which scope a route needs, or of which ones any: the decorator right above the function."""

    def mark(endpoint: Endpoint) -> Endpoint:
        _needed[endpoint] = frozenset({scope}) if isinstance(scope, Scope) else scope
        return endpoint

    return mark


class _StrictRequest(Request):
    """A request whose JSON has no key twice; FastAPI reads it from here."""

    def __init__(self, scope: MutableMapping[str, Any], body: Body) -> None:
        super().__init__(scope, body)
        self._limited = body

    async def json(self) -> Any:
        """The body, read.

        Raises:
            InvalidRequest: a key is given twice in it.
        """
        try:
            return read_json(await self.body())
        except InvalidRequest as error:
            self._limited.fault = error  # FastAPI hides it
            raise


class GuardedRoute(APIRoute):
    """A route that answers only to keys with the scope that it needs.

    Raises:
        LookupError: it does not say which.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:
        if endpoint not in _needed:
            raise LookupError(f"{path} says nothing of the scope that it needs: put @needs(...) above its function")
        given["openapi_extra"] = {**(given.get("openapi_extra") or {}), "security": [{name: []} for name in SECURITY]}
        super().__init__(path, endpoint, **given)
        scopes = " or ".join(f"`{scope}`" for scope in Scope if scope in _needed[endpoint])
        self.description += f"\n\nNeeds a key with the scope {scopes}."
        self._parameters = {field.alias for field in self.dependant.query_params}
        self._reads_body = self.body_field is not None or "requestBody" in given["openapi_extra"]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request: the guard, then the route."""
        answer, scopes = super().get_route_handler(), _needed[self.endpoint]

        async def guarded(request: Request) -> Response:
            caller = await identify(request)
            await caller.service.rates.take_request(caller.key)
            if not any(map(caller.key.may, scopes)):
                needed, held = " or ".join(sorted(scopes)), ", ".join(caller.key.scopes)
                raise Forbidden(f"this needs a key with the scope {needed}; this one has {held}")
            self._check_parameters(request)
            visit = request.state.visits.enter_context(request.app.state.gate.visit(caller.tenant))
            if not self._reads_body:  # else its turn begins at the body's end
                await visit.begin()
            body = self._body(request, caller, visit)
            try:
                answered = await answer(_StrictRequest(request.scope, body))
            except HTTPException as error:  # FastAPI makes one of whatever goes wrong while it reads a body
                raise body.fault or (InvalidRequest(NOT_JSON) if self.body_field else error) from None
            finally:
                visit.end()
            if len(answered.body) > PART:
                visit.hold(len(answered.body))
            return answered

        return guarded

    def _check_parameters(self, request: Request) -> None:
        """Refuse what would be ignored: ``DELETE ...?dry_run=true`` must not delete; and of two the first would be."""
        unknown = request.query_params.keys() - self._parameters
        if unknown:
            known = ", ".join(sorted(self._parameters)) or "none"
            raise InvalidRequest(f"there is no parameter {min(unknown)!r} here; there are: {known}")
        if len(request.query_params.multi_items()) > len(request.query_params):
            raise InvalidRequest("a parameter is given twice: send it once")

    def _body(self, request: Request, caller: Caller, visit: Visit) -> Body:
        api, charge = caller.service.settings.api, partial(caller.service.rates.take_bytes, caller.key)
        most = min(api.max_body_bytes, MOST_PLAIN) if self.body_field else api.max_body_bytes
        return Body(request, most, api.body_seconds, charge, visit)


def check_guarded(router: APIRouter) -> None:
    """Return if every route of a router is guarded, or meant to be open.

    Raises:
        LookupError: one is neither.
    """
    for route in router.routes:
        path = getattr(route, "path", None)
        if not isinstance(route, GuardedRoute) and path not in OPEN:
            raise LookupError(f"{path} would answer without a key: give its router route_class=GuardedRoute")
