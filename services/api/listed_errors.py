"""List in OpenAPI the errors that each route may answer with, by status and code, from what the route takes."""

import inspect
from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from typing import Any, TypeVar

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Header, Query

from visual_memory.schemas import errors
from visual_memory.schemas.errors import VisualMemoryError, errors_by_code
from visual_memory.schemas.fault import PROBLEM_JSON, ProblemDetails
from visual_memory.services.api.error_responses import ERRORS_PAGE

Kinds = Iterable[type[VisualMemoryError]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_ALWAYS: Kinds = (
    errors.NotAuthorized,
    errors.Forbidden,
    errors.UnknownParameter,
    errors.RateLimited,
    errors.Unavailable,
    VisualMemoryError,
)
_JSON: Kinds = (
    errors.InvalidJson,
    errors.InvalidRequest,
    errors.UnsupportedMediaType,
    errors.TooLarge,
    errors.TooSlow,
)
_WRITES: Kinds = (errors.Conflict, errors.BeingRemoved, errors.OutOfSpace)
_FORM: Kinds = (
    errors.InvalidForm,
    errors.InvalidPicture,
    errors.DecoderFailed,
    errors.UnsupportedFormat,
    errors.FetchFailed,
)
_BY_PARAMETER: dict[str, Kinds] = {"filter": (errors.InvalidFilter,), "cursor": (errors.InvalidCursor,)}
_BY_HEADER: dict[str, Kinds] = {
    "if-match": (errors.InvalidHeader, errors.PreconditionFailed),
    "idempotency-key": (errors.InvalidHeader, errors.IdempotencyKeyReused, errors.RequestRunning),
}
_may_raise: dict[Callable[..., Any], Kinds] = {}
_RETRY_AFTER = {
    "description": "whole seconds until the request may be sent again, where that may help",
    "schema": {"type": "integer", "minimum": 1},
    "example": 5,
}
_SCHEMA = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}


def may_raise(*kinds: type[VisualMemoryError]) -> Callable[[Endpoint], Endpoint]:
    """Declare the errors of a route's use case, beside those of its parameters and body; put it above the function."""

    def mark(endpoint: Endpoint) -> Endpoint:
        _may_raise[endpoint] = kinds
        return endpoint

    return mark


def any_error() -> dict[int | str, dict[str, Any]]:
    """Describe the form of every error answer, for OpenAPI."""
    content = {PROBLEM_JSON: {"schema": _SCHEMA}}
    return {
        "4XX": {"description": "The request is refused; `code` tells why.", "content": content},
        "5XX": {"description": "The service failed; `code` tells how.", "content": content},
    }


def errors_of_route(
    endpoint: Callable[..., Any], dependant: Dependant, methods: Container[str], *, reads_form: bool
) -> dict[int | str, dict[str, Any]]:
    """Describe the error answers of a route by status, for OpenAPI.

    Args:
        endpoint: the function of the route.
        dependant: its parameters.
        methods: of HTTP that it answers.
        reads_form: whether it reads pictures or vectors, as a form or as JSON.
    """
    kinds = [*_ALWAYS, *_may_raise.get(endpoint, ())]
    parameters = get_flat_params(dependant)
    query = {each.alias for each in parameters if isinstance(each.field_info, Query)}
    headers = {each.alias.lower() for each in parameters if isinstance(each.field_info, Header)}
    if dependant.path_params:
        kinds.append(errors.NotFound)
    if dependant.path_params or query:
        kinds.append(errors.InvalidParameter)
    for name in query | _fields_of_body(dependant):
        kinds += _BY_PARAMETER.get(name, ())
    for name in headers:
        kinds += _BY_HEADER.get(name, ())
    if reads_form or dependant.body_params:
        kinds += _JSON
    if reads_form:
        kinds += _FORM
    if "GET" not in methods:
        kinds += _WRITES
    return _described(kinds)


def _fields_of_body(dependant: Dependant) -> set[str]:
    models = (parameter.field_info.annotation for parameter in dependant.body_params)
    return {name for model in models for name in getattr(model, "model_fields", ())}


def error_examples() -> dict[str, Any]:
    """An example of every error, by code, for the components of OpenAPI."""
    return {code: {"summary": kind.title, "value": _example(kind)} for code, kind in errors_by_code().items()}


def about(kind: type[VisualMemoryError]) -> str:
    """What an error means: the first paragraph of its class."""
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")


def _described(kinds: Kinds) -> dict[int | str, dict[str, Any]]:
    by_status = defaultdict[int, dict[str, type[VisualMemoryError]]](dict)
    for kind in sorted(set(kinds), key=lambda each: each.code):
        by_status[kind.status][kind.code] = kind
    return {status: _answer(by_code) for status, by_code in sorted(by_status.items())}


def _answer(by_code: dict[str, type[VisualMemoryError]]) -> dict[str, Any]:
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in by_code}
    waits = any(kind.retry_after is not None for kind in by_code.values())
    return {
        **({"headers": {"Retry-After": _RETRY_AFTER}} if waits else {}),
        "description": "\n".join(f"- `{code}`: {about(kind)}" for code, kind in by_code.items()),
        "content": {PROBLEM_JSON: {"schema": _SCHEMA, "examples": examples}},
    }


def _example(kind: type[VisualMemoryError]) -> dict[str, Any]:
    return ProblemDetails(
        type=f"{ERRORS_PAGE}#{kind.code}",
        title=kind.title,
        status=kind.status,
        detail=about(kind),
        instance="urn:request:1b4e28ba2fa111d2883f0016d3cca427",
        code=kind.code,
    ).model_dump()
