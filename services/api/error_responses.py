"""Render every error as problem details (RFC 9457): a stable code, a sentence for people, and every fault."""

import re
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Match

from visual_memory.schemas.errors import (
    InvalidFilter,
    InvalidHeader,
    InvalidJson,
    InvalidParameter,
    InvalidRequest,
    MethodNotAllowed,
    NoSuchPath,
    NotAuthorized,
    NotFound,
    TooSlow,
    VisualMemoryError,
)
from visual_memory.schemas.fault import PROBLEM_JSON, Fault, ProblemDetails
from visual_memory.schemas.fault_sentences import INVALID_JSON
from visual_memory.schemas.validation_faults import MAX_EXAMINED, error_of_faults, list_faults
from visual_memory.services.infrastructure.observability.json_logs import request_id

ERRORS_PAGE = "/docs/errors"
"""The page that describes every code."""
MAX_DETAIL_CHARS = 800
"""Longest sentence: one that quotes the request could be as long as that."""
_PLACES = {"query": "parameter", "path": "parameter", "header": "header", "cookie": "header"}
"""The field of a fault for its place, by FastAPI's name of the place."""
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def binary_content(media_type: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is not JSON, for OpenAPI."""
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}


def add_error_handlers(app: FastAPI) -> None:
    """Render every expected error of the app in this form; `services.api.request_log` does so for others."""

    @app.exception_handler(VisualMemoryError)
    async def _expected(_request: Request, error: VisualMemoryError) -> Response:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        return error_response(invalid_request(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return http_error_response(request, error)


def error_response(error: VisualMemoryError) -> Response:
    """Render an error.

    Retry-After is present where a retry may help, 401 has WWW-Authenticate, 408 closes the connection.
    """
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    match error:
        case NotAuthorized():
            headers["WWW-Authenticate"] = "Bearer"
        case TooSlow():
            headers["Connection"] = "close"
    return _response(error.status, error.code, error.title, error.message, error.errors, headers)


def http_error_response(request: Request, error: HTTPException) -> Response:
    """Render an error of the framework, in sentences of this service."""
    if error.status_code == NotFound.status:
        return error_response(NoSuchPath(f"there is nothing at {request.url.path}; see /docs"))
    if error.status_code == MethodNotAllowed.status:
        allowed = ", ".join(sorted(_methods_at(request)))
        refusal = error_response(MethodNotAllowed(f"there is no {request.method} at this path; there is: {allowed}"))
        refusal.headers["Allow"] = allowed
        return refusal
    title = _PHRASES.get(error.status_code, f"Error {error.status_code}")
    code = "_".join(re.findall(r"[a-z0-9]+", title.lower()))
    return _response(error.status_code, code, title, f"the request is refused: {title}", (), error.headers or {})


def invalid_request(error: RequestValidationError) -> InvalidRequest:
    """The error for a request whose parameters, headers or body do not fit their models."""
    places: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in error.errors()[:MAX_EXAMINED]:
        kind, *path = each["loc"]
        name = str(path.pop(0)) if kind in _PLACES and path else ""
        places.setdefault((_PLACES.get(kind, ""), name), []).append({**each, "loc": tuple(path)})
    faults = list[Fault]()
    for (field, name), found in places.items():
        faults += _of_place(field, name, list_faults(found, error.body) if not field else list_faults(found))
    return error_of_faults(_kind_of({field for field, _ in places}, faults), faults, "body")


def filter_in_parameter(error: InvalidFilter) -> InvalidFilter:
    """An error of a filter with the place of its faults: the parameter ``filter``."""
    error.errors = [fault.model_copy(update={"parameter": "filter"}) for fault in error.errors]
    return error


def filter_in_body(error: InvalidFilter) -> InvalidFilter:
    """An error of a filter with the place of its faults: the field ``filter`` of the body."""
    error.errors = [fault.model_copy(update={"pointer": f"/filter{fault.pointer or ''}"}) for fault in error.errors]
    return error


def _of_place(field: str, name: str, faults: Sequence[Fault]) -> list[Fault]:
    """Faults of the body as they are; those of a parameter or header with its name in place of a pointer."""
    return [each.model_copy(update={"pointer": None, field: name}) if field else each for each in faults]


def _kind_of(fields: set[str], faults: Sequence[Fault]) -> type[InvalidRequest]:
    if any(fault.code == INVALID_JSON for fault in faults):
        return InvalidJson
    if fields == {"parameter"}:
        return InvalidParameter
    return InvalidHeader if fields == {"header"} else InvalidRequest


def _methods_at(request: Request) -> set[str]:
    """The methods that the path has, of all routes."""
    scope = {**request.scope, "path_params": {}}
    routes = (context for context in iter_route_contexts(request.app.routes) if context.methods)
    return {method for route in routes if route.matches(scope)[0] is not Match.NONE for method in route.methods or ()}


def _response(
    status: int, code: str, title: str, detail: str, errors: Sequence[Fault], headers: Mapping[str, str]
) -> Response:
    known = request_id.get()
    named = known or uuid.uuid4().hex
    problem = ProblemDetails(
        type=f"{ERRORS_PAGE}#{code}",
        title=title,
        status=status,
        detail=detail[:MAX_DETAIL_CHARS].encode(errors="backslashreplace").decode(),  # lone surrogates
        instance=f"urn:request:{named}",
        code=code,
        errors=list(errors),
    )
    own = {} if known else {"X-Request-Id": named}  # below the app nothing else adds it
    return Response(problem.model_dump_json(), status, {**headers, **own}, PROBLEM_JSON)
