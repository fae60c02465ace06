"""Every error as ``{"error": {"code": ..., "message": ...}}``: a stable code for machines, a sentence for people."""

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

MOST_SAID = 800
"""Characters of an error: one that names what was sent could be as long as that."""
RETRY_AFTER = "5"


class ErrorBody(BaseModel):
    """What was wrong and what would be right."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """The body of every answer from 400 on."""

    error: ErrorBody


def explain(error: ValidationError | RequestValidationError) -> str:
    """The first few faults of a body, each with the place where it is, without repeating what was sent."""
    briefly = {"include_url": False, "include_context": False, "include_input": False}
    found = error.errors(**briefly) if isinstance(error, ValidationError) else error.errors()
    return first_faults(found)


def content(media_type: str) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of an answer that is no JSON."""
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}


def install(app: FastAPI) -> None:
    """Let every foreseen error of the app be answered in the one form; see `services.api.request_log` for others."""

    @app.exception_handler(VisualMemoryError)
    async def _foreseen(_request: Request, error: VisualMemoryError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(InvalidRequest(explain(error)))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == NotFound.status:
            return answer(NotFound(f"there is nothing at {request.url.path}; the API is described at /docs"))
        return _answer(error.status_code, InvalidRequest.code, str(error.detail), error.headers)


def answer(error: VisualMemoryError) -> JSONResponse:
    """An error as its answer.

    A 503, a 429 and what is being removed say when to try again, a 401 how to authorize, and a 408 hangs up.
    """
    headers = {"Retry-After": RETRY_AFTER} if error.status == 503 else {}
    match error:
        case NotAuthorized():
            headers = {"WWW-Authenticate": "Bearer"}
        case RateLimited(retry_after=seconds) | BeingRemoved(retry_after=seconds) | RequestRunning(retry_after=seconds):
            headers = {"Retry-After": str(seconds)}
        case TooSlow():
            headers = {"Connection": "close"}
    return _answer(error.status, error.code, error.message, headers)


def _answer(status: int, code: str, message: str, headers: Mapping[str, str] | None) -> JSONResponse:
    body = ErrorAnswer(error=ErrorBody(code=code, message=message[:MOST_SAID]))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)
