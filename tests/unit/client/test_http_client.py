"""What both clients send again, and under which key; and which error they make of an answer."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast

import httpx
import pytest

from tests.support.awaited_client import CLIENTS
from tests.support.problems import problem
from visual_memory.schemas import errors
from visual_memory.schemas.bulk_request import BulkAction, BulkRequest
from visual_memory.schemas.curation_request import Action, CurationRequest
from visual_memory.schemas.errors import BeingRemoved, Conflict, NotFound, Unavailable, VisualMemoryError
from visual_memory.schemas.evaluation_request import EvaluationRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImagePatch
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.client import endpoints, retry_policy
from visual_memory.services.client.error_answers import UnexpectedAnswer, error_of, read_answer
from visual_memory.services.client.http_client import Client

EMPTY: dict[str, Any] = {"data": [], "next_cursor": None, "has_more": False}
REMOVAL = RemovalRequest(filter=Filter({"subject": "ann"}), reason="a test")


class Scripted(BaseHTTPRequestHandler):
    """Answers with one status after the other, the last for ever; 0 hangs up without an answer."""

    protocol_version = "HTTP/1.1"
    script: list[tuple[int, str]]
    seen: list[tuple[float, str | None]]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((time.monotonic(), self.headers.get("Idempotency-Key")))
        status, code = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if not status:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = json.dumps(problem(status, code, "later") if code else EMPTY).encode()
        self.send_response(status)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815 - as the library names them

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


Answering = Callable[..., AbstractContextManager[tuple[Client, list[tuple[float, str | None]]]]]


@contextmanager
def answering_to(
    kind: type[Client], *script: tuple[int, str]
) -> Iterator[tuple[Client, list[tuple[float, str | None]]]]:
    """A client of a service that follows a script, and the moment and key of each request that came."""
    Scripted.script, Scripted.seen = [*script], []
    with HTTPServer(("127.0.0.1", 0), Scripted) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with kind(f"http://127.0.0.1:{server.server_port}", "key") as client:
                yield client, Scripted.seen
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> type[Client]:
    """A class of client."""
    return cast(type[Client], request.param)


@pytest.fixture
def answering(kind: type[Client]) -> Answering:
    """See `answering_to`."""
    return partial(answering_to, kind)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have waited before it sent a request again."""
    waited: list[float] = []
    monkeypatch.setattr("visual_memory.services.client.http_client.time.sleep", waited.append)

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("anyio.sleep", wait)
    return waited


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "rate_limited"),
        (502, ""),
        (503, "unavailable"),
        (504, ""),
        (409, "being_removed"),
        (409, "request_running"),
    ],
)
def test_what_was_not_done_is_sent_again(answering: Answering, pauses: list[float], status: int, code: str) -> None:
    with answering((status, code), (status, code), (200, "")) as (client, seen):
        assert client.labels().data == []
    assert len(seen) == 3
    assert all(pause == 1 for pause in pauses) == (status in {429, 409}), "as long as the answer says"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "conflict"),
        (412, "precondition_failed"),
        (500, "internal"),
        (507, "out_of_space"),
        (403, "blocked"),
        (0, ""),
    ],
)
def test_nothing_else_is_sent_again(answering: Answering, pauses: list[float], status: int, code: str) -> None:
    with answering((status, code), (200, "")) as (client, seen), pytest.raises(VisualMemoryError):
        client.labels()
    assert (len(seen), pauses) == (1, [])


def test_a_refused_connection_is_tried_again(kind: type[Client], pauses: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with kind(f"http://127.0.0.1:{free.getsockname()[1]}", "key") as client, pytest.raises(Unavailable):
            client.labels()
    assert len(pauses) == retry_policy.TRIES - 1


def test_it_gives_up_after_some_tries(answering: Answering) -> None:
    with answering((503, "unavailable")) as (client, seen), pytest.raises(Unavailable):
        client.labels()
    assert len(seen) == retry_policy.TRIES


def deeds(client: Client) -> Iterator[Any]:
    yield lambda: client.remove(REMOVAL)
    yield lambda: client.remove_image("a")
    yield lambda: client.curate(CurationRequest(action=Action.MUTE, filter=Filter({"source": "a"})))
    yield lambda: client.bulk(BulkRequest(action=BulkAction.MUTE, image_ids=["a"]))
    yield lambda: client.undo("a")
    yield client.judge
    yield lambda: client.evaluate(EvaluationRequest())
    yield lambda: client.start_evaluation("a")
    yield lambda: client.counterfactual("a")
    yield client.influence


def test_what_must_be_done_once_has_one_key_for_all_tries(answering: Answering) -> None:
    with answering((503, "unavailable")) as (client, seen):
        keys = set()
        for deed in deeds(client):
            seen.clear()
            with pytest.raises(Unavailable):
                deed()
            assert len(seen) == retry_policy.TRIES
            [key] = {key for _, key in seen}
            assert key is not None
            keys.add(key)
    assert len(keys) == 10, "each deed has its own"


def test_a_removal_is_not_sent_again_after_a_lost_connection(answering: Answering) -> None:
    with answering((0, ""), (200, "")) as (client, seen), pytest.raises(Unavailable):
        client.remove(REMOVAL)
    assert len(seen) == 1


def test_what_may_be_done_twice_has_no_key(answering: Answering) -> None:
    with answering((404, "not_found")) as (client, seen):
        for deed in (client.labels, lambda: client.amend("a", ImagePatch()), lambda: client.preview_removal(REMOVAL)):
            with pytest.raises(NotFound):
                deed()
    assert [key for _, key in seen] == [None] * 3


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (409, "being_removed", BeingRemoved),
        (409, "unheard_of", Conflict),
        (400, "unheard_of", errors.MalformedRequest),
        (401, "unheard_of", errors.NotAuthorized),
        (403, "unheard_of", errors.Forbidden),
        (404, "unheard_of", errors.NotFound),
        (422, "unheard_of", errors.InvalidRequest),
        (418, "unheard_of", errors.InvalidRequest),
        (429, "unheard_of", errors.RateLimited),
        (500, "unheard_of", VisualMemoryError),
        (503, "unheard_of", Unavailable),
    ],
)
def test_a_code_that_is_unknown_is_understood_by_its_status(
    status: int, code: str, kind: type[VisualMemoryError]
) -> None:
    error = error_of(httpx.Response(status, json=problem(status, code, "so")))
    assert type(error) is kind
    assert error.message == ("so" if code == "being_removed" else "so (unheard_of)")


@pytest.mark.parametrize("kind", errors.errors_by_code().values(), ids=lambda kind: str(kind.code))
def test_every_error_of_the_service_is_known(kind: type[VisualMemoryError]) -> None:
    error = error_of(httpx.Response(kind.status, json=problem(kind.status, kind.code, "so")))
    assert (type(error), error.message) == (kind, "so")


def test_an_error_has_every_fault_and_the_id_of_its_request() -> None:
    """A service that is newer than the client may say more of a fault."""
    blank: dict[str, Any] = {"pointer": "/labels/0", "code": "invalid", "detail": "is blank", "new": 1}
    faults = [blank, {"code": "x", "detail": "y"}]
    answer = httpx.Response(
        422, json=problem(422, "invalid_request", "two", *faults), headers={"X-Request-Id": "try-1"}
    )
    error = error_of(answer)
    assert [str(fault) for fault in error.errors] == ["labels.0: is blank", "y"]
    assert (error.request_id, error.every_fault) == ("try-1", "labels.0: is blank; y")


@pytest.mark.parametrize("text", ["<html>", "[]", '{"error": 1}', '{"error": {"code": 1}}', "", "[" * 100_000])
def test_an_answer_that_is_not_the_api_s_is_understood_by_its_status(text: str) -> None:
    assert type(error_of(httpx.Response(404, text=text))) is errors.NotFound
    error = error_of(httpx.Response(502, text=text))
    assert type(error) is Unavailable
    assert "not the API's" in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize("text", ["<html>", "[]", '{"data": 1}'])
def test_a_success_in_another_form_is_understood_as_another_version(text: str) -> None:
    for request in (endpoints.labels(), endpoints.image("a")):
        with pytest.raises(UnexpectedAnswer, match="use a client of the service's version") as caught:
            read_answer(request.read, httpx.Response(200, text=text))
        assert "Field required" not in caught.value.message
        assert "Input should" not in caught.value.message


def test_an_earlier_service_is_named_as_such() -> None:
    error = error_of(httpx.Response(404, json={"error": {"code": "not_found", "message": "no image 'a'"}}))
    assert type(error) is errors.NotFound
    assert error.message.startswith("no image 'a' (not_found); the service is of an earlier version than this client")


@pytest.mark.parametrize("header", ["", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1.5"])
def test_a_moment_to_wait_for_that_is_no_number_is_left(header: str) -> None:
    answer = httpx.Response(429, json=problem(429, "rate_limited", "later"), headers={"Retry-After": header})
    error = error_of(answer)
    assert isinstance(error, errors.RateLimited)
    assert error.retry_after == 60
