"""Answers of a later version are read as far as this version knows them; those of another form are named as such."""

import inspect
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.support.awaited_client import CLIENTS
from visual_memory import __version__, schemas
from visual_memory.schemas.compatibility import VERSION_HEADER, OpenEnum
from visual_memory.schemas.curation_request import CurationRequest
from visual_memory.schemas.errors import (
    Conflict,
    MethodNotAllowed,
    NoSuchPath,
    NotFound,
    UnknownParameter,
    VisualMemoryError,
)
from visual_memory.schemas.image import State, StoredImage
from visual_memory.services.client.error_answers import UnexpectedAnswer
from visual_memory.services.client.http_client import Client

IMAGE = {
    "image_id": "one",
    "labels": ["cat"],
    "state": "archived",
    "accepted_at": "2026-01-01T00:00:00Z",
    "content_hash": "0" * 64,
    "colour": "a field of a later version",
}
REMOVAL = {
    "id": "r",
    "filter": {"subject": "ann"},
    "everything": False,
    "reason": "a test",
    "block": False,
    "requested_by": "a test",
    "requested_at": "2026-01-01T00:00:00Z",
    "status": "paused",
    "by_state": {"archived": 2, "remembered": 1},
}
OF_REQUESTS = {"FieldType", "LabelCheck", "LabelRule", "Measure"}
"""Words that only requests, settings and records have."""
SIGNED = {"receipt"}
"""A receipt of a later version is not for this one to interpret."""


class Answering(BaseHTTPRequestHandler):
    """Gives one answer to every request."""

    answer: bytes
    version: str | None
    status: int

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("X-Request-Id", "1")
        if self.version is not None:
            self.send_header(VERSION_HEADER, self.version)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def answering(kind: type[Client], answer: object, version: str | None = "999.0", status: int = 200) -> Iterator[Client]:
    """A client of a service of a version that gives this answer."""
    Answering.answer, Answering.version, Answering.status = json.dumps(answer).encode(), version, status
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with kind(f"http://127.0.0.1:{server.server_port}", "key") as client:
                yield client
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("kind", CLIENTS)
def test_an_unknown_word_is_kept_and_an_unknown_field_is_left_out(kind: type[Client]) -> None:
    page = {"data": [IMAGE], "next_cursor": None, "has_more": False, "more": 1}
    with answering(kind, page) as client:
        [image] = client.images().data
        assert [each.state for each in client.iterate(client.images)] == ["archived"]
    assert (image.state, image.state.value, f"{image.state}", image.labels) == ("archived",) * 3 + (["cat"],)
    assert isinstance(image.state, State)
    assert "archived" not in [*State], "it is no word of this version"
    assert json.loads(image.model_dump_json())["state"] == "archived"
    with answering(kind, REMOVAL) as client:
        removal = client.removal("r")
    assert (removal.status, removal.by_state) == ("paused", {"archived": 2, State.REMEMBERED: 1})


def test_a_request_and_a_record_are_refused_with_an_unknown_word_or_field() -> None:
    for request in ({"action": "archive", "filter": {}}, {"action": "mute", "filter": {"source": "x"}, "more": 1}):
        with pytest.raises(ValidationError):
            CurationRequest.model_validate_json(json.dumps(request))
    with pytest.raises(ValidationError):
        StoredImage.model_validate({**IMAGE, "tenant": "north", "picture": "p"})


def test_every_word_of_an_answer_may_become_more() -> None:
    names = [path.stem for path in Path(schemas.__path__[0]).glob("*.py")]
    closed = {
        name
        for module in set(names) - SIGNED
        for name, found in inspect.getmembers(import_module(f"visual_memory.schemas.{module}"), inspect.isclass)
        if issubclass(found, StrEnum) and found.__module__.endswith(f".{module}") and not issubclass(found, OpenEnum)
    }
    assert closed == OF_REQUESTS, "derive it from OpenEnum if answers have it"


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(
    ("version", "says"), [("999.0", "a later version, 999.0,"), ("0.0.9", "an earlier version"), (None, "an earlier")]
)
def test_an_answer_of_another_form_names_the_versions(kind: type[Client], version: str | None, says: str) -> None:
    with answering(kind, [], version) as client, pytest.raises(UnexpectedAnswer, match=says):
        client.images()


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(
    ("error", "hints"),
    [
        (NoSuchPath("there is nothing at /v1/images"), True),
        (MethodNotAllowed("GET is not allowed"), True),
        (UnknownParameter("there is no parameter 'sort'"), True),
        (NotFound("there is no image 'a'"), False),
        (Conflict("another request changed it"), False),
    ],
)
def test_a_refusal_by_an_earlier_service_says_that_it_may_be_too_old(
    kind: type[Client], error: VisualMemoryError, hints: bool
) -> None:
    problem = {"type": "", "title": error.title, "status": error.status, "detail": error.message, "code": error.code}
    for version, is_earlier in (("0.0.9", True), (__version__, False), ("999.0", False)):
        with answering(kind, {**problem, "instance": "urn:request:1"}, version, error.status) as client:
            with pytest.raises(type(error)) as raised:
                client.images()
            says = "of an earlier version, 0.0.9, than this client" in raised.value.message
            assert says == (hints and is_earlier), raised.value.message
