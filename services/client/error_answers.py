"""Map an error answer of the API to an exception of `visual_memory.schemas.errors`."""

import json

from visual_memory.schemas.errors import BeingRemoved, InvalidRequest, RateLimited, RequestRunning, Unavailable
from visual_memory.schemas.errors import VisualMemoryError as Error

GATEWAY_ERRORS = frozenset({502, 503, 504})
"""Statuses of a service that does not answer."""


def error_of(status: int, text: str, retry_after: str = "") -> Error:
    """The exception for an answer: the class of its code, or of its status where the code is unknown.

    Args:
        status: 400 or more.
        text: the body.
        retry_after: the header of this name, empty where there is none.
    """
    try:
        fields = json.loads(text)["error"]
        code, message = str(fields["code"]), str(fields["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "", f"an answer that is not the API's: {status} {text[:200]}"
    known = kinds_by_code().get(code)
    error = known(message) if known else _kind_of_status(status)(f"{message} ({code})" if code else message)
    if isinstance(error, RateLimited | BeingRemoved | RequestRunning) and retry_after.isdecimal():
        error.retry_after = int(retry_after)
    return error


def _kind_of_status(status: int) -> type[Error]:
    """The most general class with this status; a newer service may have codes that this client does not know."""
    if status in GATEWAY_ERRORS:
        return Unavailable
    same = [kind for kind in kinds_by_code().values() if kind.status == status]
    if same:
        return min(same, key=lambda kind: len(kind.__mro__))
    return InvalidRequest if status < 500 else Error


def kinds_by_code(base: type[Error] = Error) -> dict[str, type[Error]]:
    """Every class of error by its code."""
    return {base.code: base} | {
        code: kind for child in base.__subclasses__() for code, kind in kinds_by_code(child).items()
    }
