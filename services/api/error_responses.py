"""Render every error as ``{"error": {"code": ..., "message": ...}}``: a stable code, and a message for people."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from visual_memory.schemas.errors import (
    BeingRemoved,
    InvalidRequest,
    NotAuthorized,
    NotFound,
    RateLimited,
    RequestRunning,
    TooSlow,
    VisualMemoryError,
    first_faults,
)

MAX_MESSAGE_CHARS = 800
"""Longest message: one that quotes the request could be as long as that."""
RETRY_AFTER = "5"


class ErrorBody(BaseModel):
    """What is wrong, and how to correct it."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """The body of every answer with a status of 400 or above."""

    error: ErrorBody


def describe_faults(error: ValidationError | RequestValidationError) -> str:
    """Describe the first few faults of a body, each with its location, without quoting the request."""
    briefly = {"include_url": False, "include_context": False, "include_input": False}
    found = error.errors(**briefly) if isinstance(error, ValidationError) else error.errors()
    return first_faults(found)


def binary_content(media_type: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is not JSON, for OpenAPI."""
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}


def add_error_handlers(app: FastAPI) -> None:
    """Render every expected error of the app in this form; `services.api.request_log` does so for others."""

    @app.exception_handler(VisualMemoryError)
    async def _expected(_request: Request, error: VisualMemoryError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(InvalidRequest(describe_faults(error)))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == NotFound.status:
            return error_response(NotFound(f"there is nothing at {request.url.path}; see /docs"))
        return _response(error.status_code, InvalidRequest.code, str(error.detail), error.headers)


def error_response(error: VisualMemoryError) -> JSONResponse:
    """Render an error.

    503, 429 and errors of running removals have Retry-After, 401 has WWW-Authenticate, 408 closes the connection.
    """
    headers = {"Retry-After": RETRY_AFTER} if error.status == 503 else {}
    match error:
        case NotAuthorized():
            headers = {"WWW-Authenticate": "Bearer"}
        case RateLimited(retry_after=seconds) | BeingRemoved(retry_after=seconds) | RequestRunning(retry_after=seconds):
            headers = {"Retry-After": str(seconds)}
        case TooSlow():
            headers = {"Connection": "close"}
    return _response(error.status, error.code, error.message, headers)


def _response(status: int, code: str, message: str, headers: Mapping[str, str] | None) -> JSONResponse:
    body = ErrorAnswer(error=ErrorBody(code=code, message=message[:MAX_MESSAGE_CHARS]))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)
