"""Authorize a request before its body is read: key, rate limit, scope, parameters, admission, in this order."""

from collections.abc import Callable, Coroutine, MutableMapping
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query as QueryParameter
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import Forbidden, InvalidRequest
from visual_memory.schemas.strict_json import read_json
from visual_memory.services.api.admission_control import CHUNK_BYTES, Admission
from visual_memory.services.api.authenticate import Caller, authenticate
from visual_memory.services.api.request_body import LimitedBody

MAX_JSON_BYTES = 2**20
"""Longest body of a route that takes no pictures: parsed JSON and its errors use up to 100 times its length."""
NOT_JSON = "the body cannot be read: send JSON in UTF-8, without deep nesting or long numbers"
PUBLIC_PATHS = {"/healthz", "/readyz"}
"""The only routes that answer without a key; they reveal nothing of any tenant."""

SECURITY = {"HTTPBearer": {"type": "http", "scheme": "bearer"}}
"""The security scheme in OpenAPI."""

ANY_SCOPE = frozenset(Scope)
"""For routes that need a key with any scope."""
CLASSIFY_OR_READ = frozenset({Scope.CLASSIFY, Scope.READ})
"""For routes that show statistics of classes, and at most ids and labels of images, as a classification does."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_required_scopes: dict[Callable[..., Any], frozenset[Scope]] = {}


def requires_scope(scope: Scope | frozenset[Scope]) -> Callable[[Endpoint], Endpoint]:
    """Declare the scope that a route requires, or several of which any suffices; put it right above the function."""

    def mark(endpoint: Endpoint) -> Endpoint:
        _required_scopes[endpoint] = frozenset({scope}) if isinstance(scope, Scope) else scope
        return endpoint

    return mark


class _StrictRequest(Request):
    """A request that refuses JSON with duplicate keys; FastAPI reads the body from here."""

    def __init__(self, scope: MutableMapping[str, Any], body: LimitedBody) -> None:
        super().__init__(scope, body)
        self._limited_body = body

    async def json(self) -> Any:
        """Parse the body.

        Raises:
            InvalidRequest: it has a key twice.
        """
        try:
            return read_json(await self.body())
        except InvalidRequest as error:
            self._limited_body.fault = error  # FastAPI hides it
            raise


class AuthorizedRoute(APIRoute):
    """A route that answers only to keys with the scope that it requires.

    Raises:
        LookupError: it declares no scope.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if endpoint not in _required_scopes:
            raise LookupError(f"{path} declares no scope: put @requires_scope(...) above its function")
        extra = options.get("openapi_extra") or {}
        options["openapi_extra"] = {**extra, "security": [{name: []} for name in SECURITY]}
        super().__init__(path, endpoint, **options)
        scopes = " or ".join(f"`{scope}`" for scope in Scope if scope in _required_scopes[endpoint])
        self.description += f"\n\nNeeds a key with the scope {scopes}."
        parameters = get_flat_params(self.dependant)
        self._parameters = {each.alias for each in parameters if isinstance(each.field_info, QueryParameter)}
        self._reads_body = self.body_field is not None or "requestBody" in extra

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return a handler that checks the request and then calls the route."""
        handle, scopes = super().get_route_handler(), _required_scopes[self.endpoint]

        async def authorize_and_handle(request: Request) -> Response:
            caller = await authenticate(request)
            await caller.service.rates.count_request(caller.key)
            if not any(map(caller.key.may, scopes)):
                needed, granted = " or ".join(sorted(scopes)), ", ".join(caller.key.scopes)
                raise Forbidden(f"this needs a key with the scope {needed}; this one has {granted}")
            self._check_parameters(request)
            control = request.app.state.admission_control
            admission = request.state.admissions.enter_context(control.admit(caller.tenant))
            if not self._reads_body:  # otherwise the body waits for the slot at its end
                await admission.wait_for_slot()
            body = self._limited_body(request, caller, admission)
            try:
                response = await handle(_StrictRequest(request.scope, body))
            except HTTPException as error:  # FastAPI raises it for any error while it reads a body
                raise body.fault or (InvalidRequest(NOT_JSON) if self.body_field else error) from None
            finally:
                admission.release()
            if len(response.body) > CHUNK_BYTES:
                admission.reserve_bytes(len(response.body))
            return response

        return authorize_and_handle

    def _check_parameters(self, request: Request) -> None:
        """Refuse parameters that would be ignored, as ``DELETE ...?dry_run=true`` must not delete; and duplicates."""
        unknown = request.query_params.keys() - self._parameters
        if unknown:
            known = ", ".join(sorted(self._parameters)) or "none"
            raise InvalidRequest(f"there is no parameter {min(unknown)!r} here; there are: {known}")
        if len(request.query_params.multi_items()) > len(request.query_params):
            raise InvalidRequest("a parameter is given twice: send it once")

    def _limited_body(self, request: Request, caller: Caller, admission: Admission) -> LimitedBody:
        api, charge = caller.service.settings.api, partial(caller.service.rates.count_bytes, caller.key)
        max_bytes = min(api.max_body_bytes, MAX_JSON_BYTES) if self.body_field else api.max_body_bytes
        return LimitedBody(request, max_bytes, api.body_seconds, charge, admission)


def check_all_authorized(router: APIRouter) -> None:
    """Check that every route of a router requires a key, or is meant to be public.

    Raises:
        LookupError: one does not.
    """
    for route in router.routes:
        path = getattr(route, "path", None)
        if not isinstance(route, AuthorizedRoute) and path not in PUBLIC_PATHS:
            raise LookupError(f"{path} would answer without a key: give its router route_class=AuthorizedRoute")
