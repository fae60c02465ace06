"""Authorize a request before its body is read: key, rate limit, scope, parameters, admission, in this order."""

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, MutableMapping
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query as QueryParameter
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import (
    Forbidden,
    InvalidCursor,
    InvalidFilter,
    InvalidJson,
    InvalidParameter,
    InvalidRequest,
    UnknownParameter,
    UnsupportedMediaType,
)
from visual_memory.schemas.fault import MAX_NAME, Fault, limited
from visual_memory.schemas.strict_json import read_json
from visual_memory.services.api.admission_control import CHUNK_BYTES, Admission
from visual_memory.services.api.authenticate import SESSION_COOKIE, Caller, authenticate
from visual_memory.services.api.csrf_token import CSRF_HEADER
from visual_memory.services.api.error_responses import filter_in_body, filter_in_parameter
from visual_memory.services.api.invalid_form import invalid_form
from visual_memory.services.api.listed_errors import errors_of_route
from visual_memory.services.api.rate_limit_headers import note_quota
from visual_memory.services.api.request_body import LimitedBody

MAX_JSON_BYTES = 2**20
"""Longest body of a route that takes no pictures: parsed JSON and its errors use up to 100 times its length."""
NOT_JSON = "the body cannot be read: send JSON in UTF-8, without deep nesting or long numbers"
PUBLIC_PATHS = {"/healthz", "/readyz"}
"""The only routes that answer without a key; they reveal nothing of any tenant."""

SECURITY = {
    "HTTPBearer": {"type": "http", "scheme": "bearer", "description": "an API key, `vm_ID_SECRET`"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": f"a session of a browser; requests other than GET and HEAD need the header `{CSRF_HEADER}` too",
    },
}
"""The security schemes in OpenAPI, each of which suffices."""

ANY_SCOPE = frozenset(Scope)
"""For routes that need a key with any scope."""
CLASSIFY_OR_READ = frozenset({Scope.CLASSIFY, Scope.READ})
"""For routes that show statistics of classes, and at most ids and labels of images, as a classification does."""

READ_OR_REMEMBER = frozenset({Scope.READ, Scope.REMEMBER})
"""For routes that show who changed how many images, and nothing of the images."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Refused = TypeVar("Refused", bound=InvalidParameter)
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
        LookupError: it declares no scope, or has no operation id.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if endpoint not in _required_scopes:
            raise LookupError(f"{path} declares no scope: put @requires_scope(...) above its function")
        if not options.get("operation_id"):
            raise LookupError(f"{path} has no operation_id: clients that are generated are named by it")
        extra = options.get("openapi_extra") or {}
        options["openapi_extra"] = {**extra, "security": [{name: []} for name in SECURITY]}
        options["summary"] = options.get("summary") or str(options["operation_id"]).replace("_", " ").capitalize()
        super().__init__(path, endpoint, **options)
        scopes = " or ".join(f"`{scope}`" for scope in Scope if scope in _required_scopes[endpoint])
        self.description += f"\n\nNeeds a key with the scope {scopes}."
        parameters = get_flat_params(self.dependant)
        self._parameters = {each.alias for each in parameters if isinstance(each.field_info, QueryParameter)}
        reads_form = "requestBody" in extra
        self._reads_body = self.body_field is not None or reads_form
        listed = errors_of_route(endpoint, self.dependant, self.methods or (), reads_form=reads_form)
        self.responses = {**listed, **self.responses}

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return a handler that checks the request and then calls the route."""
        handle, scopes = super().get_route_handler(), _required_scopes[self.endpoint]

        async def authorize_and_handle(request: Request) -> Response:
            caller = await authenticate(request)
            note_quota(request, await caller.service.rates.count_request(caller.key))
            if not any(map(caller.key.may, scopes)):
                needed, granted = " or ".join(sorted(scopes)), ", ".join(caller.key.scopes)
                raise Forbidden(f"this needs a key with the scope {needed}; this one has {granted}")
            self._check_parameters(request)
            if self.body_field is not None:
                _check_is_json(request)
            control = request.app.state.admission_control
            admission = request.state.admissions.enter_context(control.admit(caller.tenant))
            if not self._reads_body:  # otherwise the body waits for the slot at its end
                await admission.wait_for_slot()
            body = self._limited_body(request, caller, admission)
            try:
                response = await handle(_StrictRequest(request.scope, body))
            except HTTPException as error:  # FastAPI raises it for any error while it reads a body
                raise body.fault or (InvalidJson(NOT_JSON) if self.body_field else invalid_form(error)) from None
            except (InvalidFilter, InvalidCursor) as error:
                raise self._located(error) from None
            finally:
                admission.release()
            if len(response.body) > CHUNK_BYTES:
                admission.reserve_bytes(len(response.body))
            return response

        return authorize_and_handle

    def _check_parameters(self, request: Request) -> None:
        """Refuse parameters that would be ignored, as ``DELETE ...?dry_run=true`` must not delete; and duplicates."""
        unknown = sorted(request.query_params.keys() - self._parameters)
        if unknown:
            known = ", ".join(sorted(self._parameters)) or "none"
            error: InvalidParameter = UnknownParameter(f"there is no parameter {unknown[0]!r} here; there are: {known}")
            raise _with_parameters(error, unknown, "is no parameter of this route")
        names = Counter(name for name, _ in request.query_params.multi_items())
        if repeated := [name for name, number in names.items() if number > 1]:
            error = InvalidParameter(f"the parameter {repeated[0]!r} is given twice: send it once")
            raise _with_parameters(error, repeated, "is given twice: send it once")

    def _located(self, error: InvalidFilter | InvalidCursor) -> InvalidRequest:
        """An error of a filter or cursor with the place of its faults."""
        if isinstance(error, InvalidCursor):
            return _with_parameters(error, ["cursor"], "is not of a page of this list")
        return filter_in_parameter(error) if "filter" in self._parameters else filter_in_body(error)

    def _limited_body(self, request: Request, caller: Caller, admission: Admission) -> LimitedBody:
        api = caller.service.settings.api

        async def charge(number: int) -> None:
            note_quota(request, await caller.service.rates.count_bytes(caller.key, number))

        max_bytes = min(api.max_body_bytes, MAX_JSON_BYTES) if self.body_field else api.max_body_bytes
        return LimitedBody(request, max_bytes, api.body_seconds, charge, admission)


def _check_is_json(request: Request) -> None:
    """Refuse a body that is declared to be anything but JSON.

    Raises:
        UnsupportedMediaType: it is.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if has_body and not (kind.startswith("application/") and kind.endswith(("/json", "+json"))):
        raise UnsupportedMediaType(f"the body is {kind or 'of no named type'}: send application/json")


def _with_parameters(error: Refused, names: Iterable[str], detail: str) -> Refused:
    """An error with a fault for each of some parameters."""
    error.errors = limited([Fault(parameter=name[:MAX_NAME], code=error.code, detail=detail) for name in names])
    return error


def check_all_authorized(router: APIRouter) -> None:
    """Check that every route of a router requires a key, or is meant to be public.

    Raises:
        LookupError: one does not.
    """
    for route in router.routes:
        path = getattr(route, "path", None)
        if not isinstance(route, AuthorizedRoute) and path not in PUBLIC_PATHS:
            raise LookupError(f"{path} would answer without a key: give its router route_class=AuthorizedRoute")
