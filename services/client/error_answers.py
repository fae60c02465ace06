"""Map an error answer of the API to an exception of `visual_memory.schemas.errors`."""

from collections.abc import Callable
from typing import TypeVar

import httpx
from pydantic import ValidationError

from visual_memory.schemas.errors import InvalidRequest, Unavailable, errors_by_code
from visual_memory.schemas.errors import VisualMemoryError as Error
from visual_memory.schemas.fault import ProblemDetails
from visual_memory.schemas.validation_faults import first_faults
from visual_memory.services.client.service_version import difference, may_be_unknown

Result = TypeVar("Result")

GATEWAY_ERRORS = frozenset({502, 503, 504})
"""Statuses of a service that does not answer."""
SHOWN_CHARS = 200
"""The most characters of a foreign answer that a message quotes."""


class UnexpectedAnswer(Error):
    """What answered is not a service of this client's version: a proxy, another service, or another version."""

    code = "unexpected_answer"
    title = "Unexpected answer"
    status = 502


def read_answer(read: Callable[[httpx.Response], Result], answer: httpx.Response) -> Result:
    """Read the answer to a request that succeeded.

    Args:
        read: turns an answer in the expected form into a result.
        answer: the answer.

    Raises:
        UnexpectedAnswer: it has another form.
    """
    try:
        return read(answer)
    except ValidationError as error:
        fault = first_faults(error, "answer")
    except ValueError:
        fault = "not JSON"
    raise UnexpectedAnswer(
        f"the answer has another form than this client reads ({fault}){difference(answer)}:"
        " use a client of the service's version"
    )


def error_of(answer: httpx.Response) -> Error:
    """The exception for an answer: the class of its code, or of its status where the code is unknown.

    Args:
        answer: with a status of 400 or more.
    """
    try:
        problem = ProblemDetails.model_validate_json(answer.content)
    except ValidationError:
        error = _kind_of_status(answer.status_code)(_foreign(answer))
    else:
        error = _error_of_problem(answer, problem)
    error.request_id = answer.headers.get("X-Request-Id", "")
    pause = answer.headers.get("Retry-After", "")
    if error.retry_after is not None and pause.isdecimal():
        error.retry_after = int(pause)
    return error


def _error_of_problem(answer: httpx.Response, problem: ProblemDetails) -> Error:
    known = errors_by_code().get(problem.code)
    detail = f"{problem.detail}{'' if known else f' ({problem.code})'}{may_be_unknown(answer, problem.code)}"
    error = (known or _kind_of_status(answer.status_code))(detail)
    error.errors = tuple(problem.errors)
    return error


def _foreign(answer: httpx.Response) -> str:
    """What an answer in another form than the API's may be, with its beginning."""
    try:
        earlier = answer.json()["error"]
        said = f"{earlier['message']} ({earlier['code']})"
    except (ValueError, KeyError, TypeError, RecursionError):
        beginning = " ".join(answer.text[:SHOWN_CHARS].split())
        return (
            f"an answer that is not the API's, with status {answer.status_code}: a proxy, or another service at this"
            f" address, may have sent it: {beginning}"
        )
    return (
        f"{said}; the service is of an earlier version than this client: upgrade it, or use the client of its version"
    )


def _kind_of_status(status: int) -> type[Error]:
    """The most general class with this status; a newer service may have codes that this client does not know."""
    if status in GATEWAY_ERRORS:
        return Unavailable
    same = [kind for kind in errors_by_code().values() if kind.status == status]
    if same:
        return min(same, key=lambda kind: len(kind.__mro__))
    return InvalidRequest if status < 500 else Error
