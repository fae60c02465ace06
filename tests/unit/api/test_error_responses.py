"""The answer to every error: problem details with a stable code, each fault with its place, and no library's words."""

import json
from http import HTTPStatus

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from visual_memory.schemas.errors import (
    BeingRemoved,
    Conflict,
    InvalidForm,
    OutOfSpace,
    RateLimited,
    RequestRunning,
    TooSlow,
    Unavailable,
    VisualMemoryError,
    errors_by_code,
)
from visual_memory.schemas.fault import PROBLEM_JSON, Fault, ProblemDetails
from visual_memory.services.api.error_responses import add_error_handlers, error_response
from visual_memory.services.api.errors_page import errors_page
from visual_memory.services.api.invalid_form import invalid_form
from visual_memory.services.infrastructure.observability.json_logs import request_id


@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (BeingRemoved("it is being removed"), 409, "1"),
        (RequestRunning(), 409, "1"),
        (Conflict("others change it"), 409, None),
        (RateLimited("too many", 7), 429, "7"),
        (Unavailable("no answer"), 503, "5"),
        (OutOfSpace("full"), 507, "60"),
        (TooSlow("slow"), 408, None),
    ],
)
def test_it_says_when_to_try_again(error: VisualMemoryError, status: int, after: str | None) -> None:
    answered = error_response(error)
    assert (answered.status_code, answered.headers.get("retry-after")) == (status, after)


@pytest.mark.parametrize("kind", errors_by_code().values(), ids=lambda kind: str(kind.code))
def test_every_error_is_problem_details_whose_type_is_described(kind: type[VisualMemoryError]) -> None:
    token = request_id.set("try-1")
    answered = error_response(kind("so"))
    request_id.reset(token)
    told = ProblemDetails.model_validate_json(bytes(answered.body))
    assert answered.media_type == PROBLEM_JSON
    assert (told.code, told.title, told.status, told.detail) == (kind.code, kind.title, kind.status, "so")
    assert (told.instance, told.type) == ("urn:request:try-1", f"/docs/errors#{kind.code}")
    assert f'id="{kind.code}"' in errors_page()
    assert [each for each in errors_by_code().values() if each.title == kind.title] == [kind], "a title of its own"


def test_a_fault_shows_only_the_places_that_it_has_and_any_text_can_be_answered() -> None:
    error = VisualMemoryError("half a pair \ud800")
    error.errors = [Fault(part="fields", index=3, pointer="/labels", code="missing", detail="must be given")]
    answered = json.loads(bytes(error_response(error).body))
    assert answered["errors"] == [
        {"part": "fields", "index": 3, "pointer": "/labels", "code": "missing", "detail": "must be given"}
    ]
    assert answered["detail"] == "half a pair \\ud800"


def app_that_raises(error: Exception) -> TestClient:
    app = FastAPI()
    add_error_handlers(app)

    @app.api_route("/here", methods=["GET", "HEAD"])
    def raising() -> None:
        raise error

    @app.delete("/here")
    def deleting() -> None:
        """Is there, so that `Allow` names it."""

    return TestClient(app)


@pytest.mark.parametrize("status", [each.value for each in HTTPStatus if each >= 400] + [499, 599])
def test_every_error_of_the_framework_has_a_code_of_its_own_and_none_of_its_words(status: int) -> None:
    answer = app_that_raises(HTTPException(status, "pydantic starlette")).get("/here")
    told = ProblemDetails.model_validate_json(answer.content)
    assert (answer.status_code, told.status) == (status, status)
    assert "starlette" not in answer.text
    assert told.code not in {"invalid_request", ""}
    assert told.type == f"/docs/errors#{told.code}"


def test_a_method_that_the_path_lacks_is_answered_with_those_that_it_has() -> None:
    answer = app_that_raises(HTTPException(400)).put("/here")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET, HEAD"
    assert "DELETE, GET, HEAD" in answer.json()["detail"]


def test_a_form_that_cannot_be_read_is_described_in_own_sentences() -> None:
    error = invalid_form(HTTPException(400, "Some words of a later python-multipart 7"))
    assert isinstance(error, InvalidForm)
    assert error.message.startswith("the form cannot be read")
