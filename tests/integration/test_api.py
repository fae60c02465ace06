"""The API over a real engine in one process: keys and limits before bodies, errors that tell nothing of the inside."""

import base64
import io
import json
import logging
import os
import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from sqlalchemy import insert, update
from starlette.testclient import TestClient

from tests.support.running_service import until
from tests.support.shape_pictures import picture
from tests.support.wired_service import METADATA, KeepsOpen, Parts, make_known
from visual_memory.schemas.api_key import KeyRequest
from visual_memory.schemas.background_job import JobKind
from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.image_search import ImageSort
from visual_memory.schemas.moments import now
from visual_memory.schemas.receipt import RemovalPayload, Requester
from visual_memory.services.api import admission_control
from visual_memory.services.api.app import create_app
from visual_memory.services.api.authorize import MAX_JSON_BYTES
from visual_memory.services.api.routes import decisions
from visual_memory.services.bootstrap.api_process import ApiProcess, api_process
from visual_memory.services.bootstrap.wiring import wire_memory
from visual_memory.services.decisions.explanations.explanation_budget import AT_ONCE
from visual_memory.services.decisions.explanations.explanation_jobs import ExplanationRequest
from visual_memory.services.infrastructure.observability.json_logs import Formatter
from visual_memory.services.infrastructure.processes.coalesced_call import CoalescedCall
from visual_memory.services.infrastructure.processes.fair_queue import FairQueue
from visual_memory.services.infrastructure.records.tables import jobs, removals
from visual_memory.services.receipts.parse_receipt import parse_receipt
from visual_memory.services.receipts.receipt_signature import ReceiptChecker
from visual_memory.services.settings import ApiSettings, Settings
from visual_memory.services.vector_engines.engine_contract import Engine

MOST_BYTES = 20_000_000 + 1_000_000


@pytest.fixture
def engine(parts: Parts) -> KeepsOpen:
    return KeepsOpen(parts.memory.points.engine)


@pytest.fixture
def api(parts: Parts, engine: KeepsOpen, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The app as it is wired, over the tests' engine and encoder; without a broker, as if Redis were down."""
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", os.devnull)
    monkeypatch.setattr(wire_memory, "open_engine", lambda *_: engine)
    monkeypatch.setattr(wire_memory, "load_encoder", lambda *_: parts.encoder)
    settings = Settings(
        data=short_folder, metadata=dict[str, FieldType](METADATA), api=ApiSettings(max_body_bytes=MOST_BYTES)
    )
    make_known(settings, parts.encoder)
    with api_process(settings) as process, TestClient(create_app(settings, process)) as client:
        yield client


@pytest.fixture
def service(api: TestClient) -> ApiProcess:
    found = api.app.state.service.current()  # type: ignore[attr-defined]
    assert isinstance(found, ApiProcess)
    return found


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, as it would be written."""
    written = io.StringIO()
    handler, root = logging.StreamHandler(written), logging.getLogger()
    handler.setFormatter(Formatter("api"))
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    yield written
    root.setLevel(level)
    root.removeHandler(handler)


def header(service: ApiProcess, tenant: str, *scopes: str, **limits: int) -> dict[str, str]:
    """What a new key is sent as."""
    wanted = {"name": "camera", "tenant": tenant, "scopes": scopes or ["admin"], **limits}
    return {"Authorization": f"Bearer {service.keys.make(KeyRequest.model_validate(wanted)).text}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/images"),
        ("POST", "/v1/classify"),
        ("POST", "/v1/removals"),
        ("PATCH", "/v1/images/x"),
    ],
)
def test_a_stranger_s_body_is_not_read_before_the_key_is_checked(
    api: TestClient, service: ApiProcess, parts: Parts, method: str, path: str
) -> None:
    lacking = {"/v1/images": "classify", "/v1/classify": "remember", "/v1/removals": "remember"}.get(path, "classify")
    for headers, status, code in [
        ({}, 401, "not_authorized"),
        (header(service, parts.tenant, lacking), 403, "forbidden"),
        (header(service, parts.tenant), 422, "invalid_json"),
    ]:
        sent = {**headers, "content-type": "application/json"}
        answer = api.request(method, path, content=b"{not json", headers=sent)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_the_record_of_a_removal_names_the_key(api: TestClient, service: ApiProcess, parts: Parts) -> None:
    sent = header(service, parts.tenant, "remove")
    answer = api.post("/v1/removals", json={"filter": {"subject": "ann"}, "reason": "asked to"}, headers=sent)
    [key] = service.keys.all()
    assert answer.json()["requested_by"] == f"camera (key {key.id})"
    assert sent["Authorization"][-43:] not in answer.text
    done, asked = service.audit.latest(parts.tenant).data
    assert (done.action, done.outcome, done.images) == ("remove", "done", 0)
    assert (asked.action, asked.outcome, asked.request) == ("remove", "running", answer.headers["x-request-id"])
    assert {(line.by, line.key, line.removal) for line in (done, asked)} == {("camera", key.id, answer.json()["id"])}
    again = [
        api.post("/v1/removals", json={"filter": {"subject": "ann"}, "reason": "asked to"}, headers=sent | named)
        for named in [{"Idempotency-Key": "a"}] * 2
    ]
    assert again[0].json() == again[1].json() != answer.json()


def test_what_cannot_be_logged_is_not_done_and_an_acceptance_is_harmless_to_send_again(
    api: TestClient, service: ApiProcess, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutOfSpace("the disk of the records is full")

    [image_id] = parts.teach(picture("bars"), subject="ann")
    sent = header(service, parts.tenant)
    files, said = [("files", ("p", picture("disc")))], {"fields": json.dumps({"labels": ["x"], "image_id": "new"})}
    with monkeypatch.context() as patched:
        patched.setattr(type(service.audit), "write", full)
        mute = {"action": "mute", "filter": {"subject": "ann"}}
        assert api.post("/v1/curations", json=mute, headers=sent).status_code == 507
        assert api.patch(f"/v1/images/{image_id}", json={"source": "x"}, headers=sent).status_code == 507
        assert api.get(f"/v1/images/{image_id}", headers=sent).status_code == 507, "nobody looks unseen"
        answer = api.post("/v1/images", files=files, data=said, headers=sent)
        assert answer.status_code == 507
        assert "send it again, which changes nothing more" in answer.json()["detail"]
    [image] = parts.held(image_id)
    assert (image.state, image.source) == (State.REMEMBERED, None), "nothing was done"
    assert api.post("/v1/images", files=files, data=said, headers=sent).status_code == 202
    assert len(parts.held("new")) == 1


def test_whoever_looks_at_a_subject_is_logged_without_its_name(
    api: TestClient, service: ApiProcess, parts: Parts
) -> None:
    [image_id] = parts.teach(picture("bars"), subject="ann-of-the-audit")
    sent = header(service, parts.tenant)
    looked = [
        api.get("/v1/images", params={"filter": '{"subject": ["ann-of-the-audit", "tom"]}'}, headers=sent),
        *(api.get(f"/v1/images/{image_id}{end}", headers=sent) for end in ("", "/picture", "/thumbnail")),
    ]
    assert [answer.status_code for answer in looked] == [200, 200, 404, 404], "the picture's file is not this service's"
    named = {"filter": {"subject": "ann-of-the-audit"}}
    looked += [
        api.get("/v1/images", headers=sent),
        api.post("/v1/removals/preview", json={**named, "reason": "asked to"}, headers=sent),
    ]
    answer = api.get("/v1/audit", params={"subject": "ann-of-the-audit"}, headers=sent)
    assert [(line["action"], line["images"]) for line in answer.json()["data"]] == [("read", 1)] * 6
    assert [line["request"] for line in answer.json()["data"]] == [
        each.headers["x-request-id"] for each in reversed(looked)
    ]
    assert "ann-of" not in answer.text
    everything = api.get("/v1/audit", headers=sent).json()["data"]
    assert [line["action"] for line in everything] == ["read"] * 6
    asked = {"vectors": [[1.0] * parts.encoder.dimension], "filter": named["filter"], "store": True}
    decision = api.post("/v1/classify", json=asked, headers=sent).json()["decisions"][0]["id"]
    looked = [
        api.get(f"/v1/decisions/{decision}", headers=sent),
        api.post(f"/v1/decisions/{decision}/replay", json={}, headers=sent),
        api.post("/v1/decisions/preview", json={"action": "mute", "filter": named["filter"]}, headers=sent),
        api.patch(f"/v1/images/{image_id}", json={}, headers=sent),
        api.get("/v1/labels", params={"filter": json.dumps(named["filter"])}, headers=sent),
        api.post("/v1/curations/preview", json={**named, "action": "mute"}, headers=sent),
    ]
    assert [answer.status_code for answer in looked] == [200] * 6
    answer = api.get("/v1/audit", params={"subject": "ann-of-the-audit", "limit": 6}, headers=sent)
    assert [line["request"] for line in answer.json()["data"]] == [
        each.headers["x-request-id"] for each in reversed(looked)
    ]


def test_whom_a_filter_names_is_shown_to_whom_may_read(api: TestClient, service: ApiProcess, parts: Parts) -> None:
    reader = header(service, parts.tenant, "classify", "read")
    asked = api.post("/v1/evaluations", json={"filter": {"subject": "ann-of-it", "labels": "x"}}, headers=reader)
    place = f"/v1/evaluations/{asked.json()['id']}"
    asker, remover = (header(service, parts.tenant, scope) for scope in ("classify", "remove"))
    for sent, shown in ((reader, {"subject": "ann-of-it", "labels": "x"}), (asker, {"labels": "x"})):
        one, every = (api.get(where, headers=sent).json() for where in (place, "/v1/evaluations"))
        assert [each["request"]["filter"] for each in (one, *every["data"])] == [shown] * 2
    assert api.delete(place, headers=remover).json()["request"]["filter"] == {"labels": "x"}


def test_images_are_searched_by_a_body_as_by_a_query(api: TestClient, service: ApiProcess, parts: Parts) -> None:
    for number, kind in enumerate(("bars", "disc", "bars")):
        parts.teach(picture(kind), subject=f"ann-{number}", labels=[kind])
    sent = header(service, parts.tenant, "read")
    where = {"labels": "bars"}

    def search(**body: object) -> Any:
        return api.post("/v1/images/search", json=body, headers=sent)

    for sort in get_args(ImageSort):
        query = {"filter": json.dumps(where), "sort": sort, "limit": 1, "total": True}
        listed = api.get("/v1/images", params=query, headers=sent).json()
        assert listed == search(filter=where, sort=sort, limit=1, total=True).json()
        assert (listed["total"], listed["total_is_estimate"], listed["has_more"]) == (2, False, True)
        rest = search(filter=where, sort=sort, cursor=listed["next_cursor"]).json()
        assert rest["data"][0]["image_id"] != listed["data"][0]["image_id"]
        assert (len(rest["data"]), rest["next_cursor"], rest["has_more"]) == (1, None, False)
        other = search(sort=sort.removeprefix("-") if "-" in sort else f"-{sort}", cursor=listed["next_cursor"])
        assert (other.status_code, "invalid_cursor" in other.text) == (422, True)
    image_id = rest["data"][0]["image_id"]
    similar = search(similar_to={"image_id": image_id}).json()
    assert image_id not in {each["image_id"] for each in similar["data"]}
    assert (len(similar["data"]), similar["has_more"]) == (2, False)
    assert similar["data"][0]["similarity"] >= similar["data"][1]["similarity"]
    refused: list[dict[str, object]] = [
        {"similar_to": {"image_id": image_id}, "sort": "accepted_at"},
        {"similar_to": {"image_id": image_id, "vector": [1.0]}},
        {"similar_to": {"vector": [1.0]}},
        {"sort": "labels"},
        {"limit": 1001},
    ]
    assert [search(**body).status_code for body in refused] == [422] * len(refused)
    assert search(similar_to={"image_id": "none"}).status_code == 404
    asker = header(service, parts.tenant, "classify")
    assert api.post("/v1/images/search", json={}, headers=asker).status_code == 403


def test_a_curation_that_is_sent_again_with_its_key_is_done_once(
    api: TestClient, service: ApiProcess, parts: Parts
) -> None:
    parts.teach(picture("bars"), picture("disc"), subject="ann")
    sent = header(service, parts.tenant, "remember", "read")
    mute, unmute = ({"action": action, "filter": {"subject": "ann"}} for action in ("mute", "unmute"))

    def curate(asked: object, name: str) -> tuple[int, Any]:
        answer = api.post("/v1/curations", json=asked, headers={**sent, "Idempotency-Key": name})
        return answer.status_code, answer.json()

    status, first = curate(mute, "a")
    assert (status, first["action"], first["images"]) == (200, "mute", 2)
    assert curate(mute, "a") == (200, first)
    assert curate(unmute, "b")[1]["images"] == 2
    assert curate(mute, "a") == (200, first)
    assert {image.state for image in parts.memory.images.page(parts.tenant, [], 9)[0]} == {State.REMEMBERED}, (
        "not done again"
    )
    assert curate(unmute, "a")[0] == 422
    assert curate(unmute, "a")[1]["code"] == "idempotency_key_reused"
    assert [line.action for line in service.audit.latest(parts.tenant).data if line.action != "read"] == [
        "unmute",
        "mute",
    ]
    for bad in ("", "x" * 201, "a b"):
        assert curate(mute, bad)[0] == 422, bad


MADE_ONCE: list[tuple[str, dict[str, object] | None, str]] = [
    ("/v1/removals", {"filter": {"subject": "ann"}, "reason": "asked to"}, "removal"),
    ("/v1/judgements", None, "job"),
    ("/v1/evaluations", {}, "evaluation"),
]


@pytest.mark.parametrize(("path", "body", "kind"), MADE_ONCE, ids=[kind for _, _, kind in MADE_ONCE])
def test_what_is_sent_many_times_at_once_with_one_key_is_made_once_and_logged_once(
    api: TestClient, service: ApiProcess, parts: Parts, path: str, body: dict[str, object] | None, kind: str
) -> None:
    sent = header(service, parts.tenant)

    def send(name: str, sent: dict[str, str] = sent, body: object = body) -> tuple[int, Any]:
        answer = api.post(path, json=body, headers={**sent, "Idempotency-Key": name})
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, ["a"] * 8))
    assert {status for status, _ in answers} == {201 if kind == "evaluation" else 202}
    [made] = {answer["id"] for _, answer in answers}
    lines = [line for line in service.audit.latest(parts.tenant).data if line.outcome != "done" or kind != "removal"]
    assert [getattr(line, kind) for line in lines] == [made]
    assert send("a")[1]["id"] == made
    if body is not None:
        other = {**body, "filter": {"subject": "tom"}}
        assert send("a", body=other)[1]["code"] == "idempotency_key_reused"
        assert send("b", body=other)[1]["id"] != made
    another = header(service, parts.tenant)
    assert (send("a", another)[1]["id"] == made) == (kind == "job"), "another key's name is another, and one job runs"


def test_what_is_deleted_is_logged_with_it(api: TestClient, service: ApiProcess, parts: Parts) -> None:
    sent = header(service, parts.tenant)
    made = api.post("/v1/evaluations", json={}, headers=sent).json()["id"]
    assert api.delete(f"/v1/evaluations/{made}", headers=sent).status_code == 200
    assert api.delete(f"/v1/evaluations/{made}", headers=sent).status_code == 404
    actions = [(line.action, line.evaluation) for line in service.audit.latest(parts.tenant).data]
    assert actions == [("evaluations.delete", made), ("evaluations.request", made)]


@pytest.mark.parametrize("image_id", ["one", "image", "DELETE"])
def test_an_image_is_removed_whatever_it_is_called(
    api: TestClient, service: ApiProcess, parts: Parts, image_id: str
) -> None:
    parts.teach(picture("disc"), image_id=image_id)
    answer = api.delete(f"/v1/images/{image_id}", headers=header(service, parts.tenant, "remove"))
    assert (answer.status_code, answer.json()["images"]) == (202, 1)


def test_a_reason_names_nothing_that_the_filter_does(api: TestClient, service: ApiProcess, parts: Parts) -> None:
    sent = header(service, parts.tenant, "remove")
    for where, reason, status in [
        ({"subject": "ann"}, "Ann asked for it", 422),
        ({"subject": ["tom", "ann"]}, "asked by ann", 422),
        ({"subject": {"not": "ann"}}, "all but ann", 422),
        ({"metadata.age": 4711}, "customer 4711", 422),
        ({"subject": "ann"}, "it was planned", 200),
        ({"accepted_at": {"lte": "2026-01-01T00:00:00Z"}}, "older than 2026", 200),
    ]:
        answer = api.post("/v1/removals/preview", json={"filter": where, "reason": reason}, headers=sent)
        assert answer.status_code == status, (reason, answer.text)
        assert status == 200 or "a value of the filter" in answer.json()["detail"]


class Silent:
    """An engine that does not answer, and counts who asks."""

    def __init__(self) -> None:
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        def call(*_: object, **__: object) -> None:
            self.asked += 1
            raise Unavailable("the store did not answer within 2 s; send it again")

        return call


PICTURE = base64.b64encode(picture("disc")).decode()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/images", {"images": [{"picture": PICTURE, "labels": ["cat"]}] * 2}),
        ("POST", "/v1/classify", {"pictures": [PICTURE]}),
        ("GET", "/v1/images", None),
        ("GET", "/v1/images/x", None),
        ("PATCH", "/v1/images/x", {"subject": "ann"}),
        ("GET", "/v1/labels", None),
        ("POST", "/v1/curations", {"action": "mute", "filter": {"labels": "cat"}}),
    ],
)
def test_a_request_waits_for_a_silent_store_once(
    api: TestClient, service: ApiProcess, parts: Parts, engine: KeepsOpen, method: str, path: str, body: object
) -> None:
    """So that it is answered within one timeout of the store, whatever else it would ask."""
    silent = Silent()
    engine._engine = cast(Engine, silent)
    answer = api.request(method, path, json=body, headers=header(service, parts.tenant))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
    assert silent.asked == 1


def test_the_document_describes_every_body_and_scope(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    for path in ("/v1/images", "/v1/classify"):
        described = document["paths"][path]["post"]["requestBody"]["content"]
        assert set(described) == {"application/json", "multipart/form-data"}
    for name in ("SentImages", "ImageFields", "ClassifyRequest", "ClassifyOptions"):
        assert name in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            guarded = path not in {"/healthz", "/readyz"}
            assert bool(operation.get("security")) == guarded, path
            assert ("Needs a key with the scope" in operation["description"]) == guarded, path


def test_the_document_lists_the_error_answers_of_each_route(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    examples = document["components"]["examples"]
    form = {"$ref": "#/components/schemas/ProblemDetails"}
    assert "ProblemDetails" in document["components"]["schemas"]
    listed: dict[str, set[tuple[str, str]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            codes = listed[f"{method} {path}"] = set()
            for status, answer in operation["responses"].items():
                if status[0] not in "45" or (path, status) == ("/readyz", "503"):
                    continue
                content = answer["content"]["application/problem+json"]
                assert (content["schema"], len(answer["content"])) == (form, 1), (path, status)
                codes |= {(status, code) for code in content.get("examples", ())}
    always = {("401", "not_authorized"), ("403", "forbidden"), ("429", "rate_limited"), ("503", "unavailable")}
    assert all(always <= codes for each, codes in listed.items() if "/v1/" in each)
    assert {("404", "not_found"), ("412", "precondition_failed"), ("415", "unsupported_media_type")} <= listed[
        "patch /v1/images/{image_id}"
    ]
    assert {("422", "invalid_filter"), ("422", "idempotency_key_reused")} <= listed["post /v1/removals"]
    assert {("409", "not_judged"), ("422", "invalid_vector")} <= listed["post /v1/classify"]
    assert {code for codes in listed.values() for _, code in codes} <= examples.keys()
    assert all(example["value"]["code"] == code for code, example in examples.items())


def test_the_streams_are_described_without_a_key(api: TestClient) -> None:
    streams = api.get("/asyncapi.json").json()
    assert streams["channels"]["images"]["address"] == "visual-memory:intake:{tenant}"
    for kind in ("image", "removal"):
        assert api.get(f"/schemas/{kind}-event.json").json()["$id"] == f"urn:visual-memory:{kind}-event"
    page = api.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for shown in ("/asyncapi.json", "/schemas/image-event.json", "XADD visual-memory:intake:{tenant}"):
        assert shown in page.text
    assert "/asyncapi.json" not in api.get("/openapi.json").json()["paths"]


def test_the_page_of_the_api_loads_only_files_of_this_service(api: TestClient) -> None:
    assert api.get("/", follow_redirects=False).headers["location"] == "docs"
    page = api.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "docs/page.js", "openapi.json"} <= {*loaded}
    for path in loaded:
        assert api.get(f"/{path}").status_code == 200, path
    assert "SwaggerUIBundle" in api.get("/docs/page.js").text


def test_what_goes_wrong_inside_is_neither_told_nor_logged_in_words(
    api: TestClient, service: ApiProcess, parts: Parts, engine: KeepsOpen, log: io.StringIO
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret of the house")

    engine.__dict__["facet"] = fail
    answer = api.get("/v1/labels", headers={**header(service, parts.tenant), "X-Request-Id": "try-7"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["x-request-id"] == "try-7"
    [line] = [line for line in log.getvalue().splitlines() if "RuntimeError" in line]
    assert json.loads(line)["request"] == "try-7"
    assert "in fail" in line
    assert "secret" not in answer.text + log.getvalue()


def test_each_request_is_a_line(api: TestClient, service: ApiProcess, parts: Parts, log: io.StringIO) -> None:
    sent = header(service, parts.tenant, "read")
    api.get("/v1/images/an-id?a-query", headers={**sent, "X-Request-Id": "try-8"})
    api.get("/nowhere/an-id")
    api.put("/v1/images/an-id")
    lines = [json.loads(line) for line in log.getvalue().splitlines() if '"route"' in line]
    [key] = service.keys.all()
    told = [{name: line.get(name) for name in ("method", "route", "status", "key", "tenant")} for line in lines]
    nobody = {"key": None, "tenant": None}
    assert told == [
        {"method": "GET", "route": "/v1/images/{image_id}", "status": 422, "key": key.id, "tenant": parts.tenant},
        {"method": "GET", "route": None, "status": 404, **nobody},
        {"method": "PUT", "route": "/v1/images/{image_id}", "status": 405, **nobody},
    ]
    assert lines[0]["request"] == "try-8"
    assert all(line["ms"] >= 0 for line in lines)
    assert "an-id" not in json.dumps(lines)
    assert "a-query" not in json.dumps(lines)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", 'a"b', "<a>", "ä", "a\tb"], ids=ascii)
def test_a_request_id_that_is_not_safe_is_replaced(api: TestClient, name: str) -> None:
    answer = api.get("/healthz", headers={b"X-Request-Id": name.encode()})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_requests_over_the_key_s_limit_are_refused(api: TestClient, service: ApiProcess, parts: Parts) -> None:
    limited = header(service, parts.tenant, "classify", requests_per_minute=3)
    for number in range(3):
        answer = api.get("/v1/labels", headers=limited)
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"requests";q=3;w=60'
        left, _, reset = answer.headers["ratelimit"].partition(";t=")
        assert left == f'"requests";r={2 - number}'
        assert 1 <= int(reset) <= 60
    answer = api.get("/v1/labels", headers=limited)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert answer.headers["ratelimit"] == f'"requests";r=0;t={answer.headers["retry-after"]}'
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert f"in {answer.headers['retry-after']} seconds" in answer.json()["detail"]
    others = api.get("/v1/labels", headers=header(service, parts.tenant))
    assert (others.status_code, "ratelimit" in others.headers) == (200, False), "others are not limited"


@pytest.mark.parametrize("path", ["/v1/images", "/v1/removals"])
def test_bytes_over_the_key_s_limit_are_refused_as_they_arrive(
    api: TestClient, service: ApiProcess, parts: Parts, path: str
) -> None:
    limited = header(service, parts.tenant, bytes_per_minute=1000)
    headers = {**limited, "content-type": "application/json"}
    let_in = api.post(path, content=b" " * 999, headers=headers)
    assert let_in.status_code == 422
    assert let_in.headers["ratelimit-policy"] == '"bytes";q=1000;w=60;qu="content-bytes"'
    assert let_in.headers["ratelimit"].startswith('"bytes";r=1;t=')
    answer = api.post(path, content=b" " * 2, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert "1000 bytes a minute" in answer.json()["detail"]
    assert api.get("/v1/labels", headers=limited).status_code == 200, "what has no body is not refused"


@pytest.mark.parametrize("path", ["/v1/images", "/v1/removals"])
def test_a_body_without_length_that_is_too_long_is_refused_as_such(
    api: TestClient, service: ApiProcess, parts: Parts, path: str
) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(MOST_BYTES // 10**6 + 1):
            yield b" " * 10**6

    headers = {**header(service, parts.tenant), "content-type": "application/json"}
    answer = api.post(path, content=chunks(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), answer.text


def test_where_no_turn_comes_every_route_says_when_to_try_again_and_health_answers(
    api: TestClient, service: ApiProcess, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_control, "SLOT_TIMEOUT", 0.05)
    sent = header(service, parts.tenant)
    assert api.get("/v1/labels", headers=sent).status_code == 200
    api.app.state.admission_control.slots = FairQueue[None]([], 0)  # type: ignore[attr-defined]
    asked = [("GET", "/v1/labels"), ("DELETE", "/v1/images/x")]
    asked += [("POST", f"/v1/{path}") for path in ("removals", "influence", "judgements")]
    for method, path in asked:
        answer = api.request(method, path, headers={**sent, "content-type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), path
        assert answer.headers["retry-after"] == "5"
    assert api.get("/v1/labels").status_code == 401, "who has no key does not wait"
    assert api.get("/healthz").status_code == 200
    assert api.get("/readyz").json()["parts"]["store"]["ok"]


def test_a_route_without_pictures_takes_no_long_body(api: TestClient, service: ApiProcess, parts: Parts) -> None:
    sent = {**header(service, parts.tenant), "content-type": "application/json"}
    for path, status in (("/v1/removals", 413), ("/v1/classify", 422)):
        assert api.post(path, content=b" " * (MAX_JSON_BYTES + 1), headers=sent).status_code == status


def test_strangers_who_ask_for_health_share_an_examination_that_began_after_they_asked(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, arrived, turns, found = [], [], threading.Semaphore(0), {"store": ""}

    def examine() -> dict[str, str]:
        begun.append(1)
        faults = dict(found)
        assert turns.acquire(timeout=30)
        return faults

    class Counted(CoalescedCall[dict[str, str]]):
        async def __call__(self) -> dict[str, str]:
            arrived.append(1)
            return await super().__call__()

    monkeypatch.setattr(api.app.state, "find_faults", Counted(examine))  # type: ignore[attr-defined]
    with ThreadPoolExecutor(9) as strangers:
        first = strangers.submit(api.get, "/readyz")
        until(lambda: begun, "the first examination")
        found["store"] = "gone"
        answers = [strangers.submit(api.get, "/readyz") for _ in range(8)]
        until(lambda: len(arrived) == 9, "all of them to ask")
        assert api.get("/healthz").status_code == 200
        turns.release(2)
        assert first.result().status_code == 200
        assert {answer.result().status_code for answer in answers} == {503}, "the first one's answer is older than they"
    assert len(begun) == 2


@pytest.mark.parametrize("scope", ["classify", "read", "remember", "remove", "admin"])
def test_every_key_may_ask_which_encoders_there_are(
    api: TestClient, service: ApiProcess, parts: Parts, scope: str
) -> None:
    answer = api.get("/v1/encoders", headers=header(service, parts.tenant, scope))
    assert answer.json()["data"] == [{"name": "pixels", "dimension": parts.memory.dimension, "active": True}]
    assert api.get("/v1/encoders").status_code == 401
    asked = {"vectors": [[1.0] * parts.memory.dimension], "encoder": "another"}
    refused = api.post("/v1/classify", json=asked, headers=header(service, parts.tenant))
    assert (refused.status_code, refused.json()["code"]) == (409, "encoder_mismatch")


def test_a_removal_takes_away_what_a_model_answered_beside_its_images(service: ApiProcess) -> None:
    assert service.rerank.remove_covered in service.removal_steps.hooks


def test_options_stand_once_and_what_is_too_much_is_refused_with_a_sentence(
    api: TestClient, service: ApiProcess, parts: Parts
) -> None:
    parts.teach(picture("disc"))
    sent, vector = header(service, parts.tenant), [1.0] * parts.memory.dimension
    answer = api.post("/v1/classify", json={"vectors": [vector] * 3, "k": 2, "prune": "soft"}, headers=sent).json()
    assert answer.keys() == {"options", "decisions"}
    assert (answer["options"]["prune"], answer["options"]["group_by"]) == ("none", "content"), "as they were applied"
    assert [each["voters"] for each in answer["decisions"]] == [1, 1, 1]
    assert not any("options" in each for each in answer["decisions"])
    for asked, status, word in [
        ({"vectors": [vector] * 33, "k": 1000}, 413, "33,000 votes"),
        ({"vectors": [vector], "filter": {"labels": ["x" * 1000] * 70}}, 422, "65,536"),
    ]:
        refused = api.post("/v1/classify", json=asked, headers=sent)
        assert (refused.status_code, word in refused.json()["detail"]) == (status, True), refused.text
    long = {"filter": {"source": ["x" * 1000] * 70}, "reason": "asked", "action": "mute", "everything": False}
    for path, fields in {
        "/v1/removals": ("filter", "reason"),
        "/v1/curations": ("filter", "action"),
        "/v1/evaluations": ("filter",),
        "/v1/decisions/preview": ("filter", "action"),
    }.items():
        refused = api.post(path, json={name: long[name] for name in fields}, headers=sent)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_filter"), refused.text


def test_a_question_that_takes_long_is_answered_with_a_job(
    api: TestClient, service: ApiProcess, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.teach(picture("disc"))
    sent, vector = header(service, parts.tenant), [1.0] * parts.memory.dimension
    asked = {"vectors": [vector], "store": True}
    decision_id = api.post("/v1/classify", json=asked, headers=sent).json()["decisions"][0]["id"]
    paths = [f"/v1/decisions/{decision_id}/counterfactual", "/v1/influence"]
    assert [api.post(path, headers=sent).status_code for path in paths] == [200, 200]
    monkeypatch.setattr(decisions, "AT_ONCE", replace(AT_ONCE, images=0, bytes=0))
    answers = [api.post(path, headers=sent) for path in paths]
    assert [answer.status_code for answer in answers] == [202, 202]
    for answer in answers:
        assert (answer.headers["Location"], answer.headers["Retry-After"]) == (f"/v1/jobs/{answer.json()['id']}", "1")
        job = api.get(answer.headers["Location"], headers=sent)
        assert (job.status_code, job.json()["state"], job.json()["result"]) == (200, "waiting", None)
    assert api.post(paths[0], headers=sent).status_code == 409, "two wait already"
    assert api.post("/v1/decisions/x/counterfactual", headers=sent).status_code == 404


def test_jobs_are_shown_by_kind_and_cancelled_by_who_may_start_them(
    api: TestClient, service: ApiProcess, parts: Parts
) -> None:
    parts.teach(picture("disc"))
    rememberer, asker, reader, remover = (
        header(service, parts.tenant, *scopes)
        for scopes in (["remember"], ["classify"], ["read"], ["classify", "remove"])
    )
    judgement = api.post("/v1/judgements", headers=rememberer)
    made = api.post("/v1/evaluations", json={}, headers=asker)
    assert (made.status_code, made.headers["Location"]) == (201, f"/v1/evaluations/{made.json()['id']}")
    judged, evaluated = judgement.headers["Location"], f"/v1/jobs/{made.json()['id']}"
    explained = service.explanation_jobs.create(
        parts.tenant, JobKind.INFLUENCE, ExplanationRequest(last=9), "another"
    ).id
    paths = (judged, evaluated, f"/v1/jobs/{explained}")

    def statuses(sent: dict[str, str], verb: str = "GET", end: str = "") -> list[int]:
        return [api.request(verb, path + end, headers=sent).status_code for path in paths]

    assert statuses(rememberer) == [200, 404, 404]
    assert statuses(asker) == [200, 200, 404]
    assert statuses(reader) == [200, 200, 200]
    stranger = header(service, parts.tenant, "classify")
    assert statuses(stranger, "POST", "/cancel") == [403, 403, 404], "the evaluation is of another key"
    assert statuses(reader, "POST", "/cancel") == [403, 403, 200]
    assert statuses(remover, "POST", "/cancel") == [403, 200, 404]
    assert statuses(rememberer, "POST", "/cancel") == [200, 404, 404]
    states = [api.get(path, headers=reader).json() for path in paths]
    assert {each["state"] for each in states} == {"cancelled"}
    assert all(each["cancelled_by"].startswith("camera (key ") for each in states)
    logged = [line.job for line in service.audit.latest(parts.tenant).data if line.action == "jobs.cancel"]
    assert logged == [judged.split("/")[-1], made.json()["id"], explained]
    for sent, listed in ((rememberer, 1), (asker, 2), (reader, 3)):
        assert len(api.get("/v1/jobs", headers=sent).json()["data"]) == listed
    one: dict[str, Any] = {"kind": "influence", "state": "cancelled", "limit": 1, "total": True}
    page = api.get("/v1/jobs", params=one, headers=reader).json()
    assert ([each["id"] for each in page["data"]], page["has_more"], page["total"]) == ([explained], False, 1)
    assert api.get("/v1/jobs", params={"state": "running"}, headers=reader).json()["data"] == []
    first = api.get("/v1/jobs", params={"limit": 2}, headers=reader).json()
    rest = api.get("/v1/jobs", params={"cursor": first["next_cursor"]}, headers=reader).json()
    assert [each["id"] for each in first["data"] + rest["data"]] == logged[::-1]
    with service.jobs.database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == explained).values(state="done"))
    assert api.post(f"{paths[2]}/cancel", headers=reader).status_code == 409
    assert api.post("/v1/judgements", headers=rememberer).json()["id"] not in judged, "another one may begin"


def give_receipt(service: ApiProcess, tenant: str, where: Filter) -> tuple[str, str]:
    """A removal that is done, as its row and its entry say it: its id and its receipt."""
    removal, log = str(uuid.uuid4()), service.receipts.log
    asked: dict[str, Any] = {
        "requested_at": now(),
        "requested_by": Requester(name="a test"),
        "reason": "asked to",
        "block": False,
        "everything": False,
        "filter_digest": service.receipts.filters.of(removal, where),
    }
    row = {"id": removal, "tenant": tenant, "step": "done", "everything": False, "block": False, "reason": "asked to"}
    with log.database.write() as connection:
        done = RemovalPayload(**asked, done_at=now(), images=1, by_state={State.MUTED: 1}, pictures=1)
        text = log.append(connection, tenant, removal, done).text
        values = {**row, "requested_by": "a test", "requested_at": now(), "receipt": text}
        connection.execute(insert(removals).values(values))
    return removal, text


def test_receipts_are_given_byte_for_byte_and_checked(api: TestClient, service: ApiProcess) -> None:
    removal, text = give_receipt(service, "shop", Filter({"subject": "ann"}))
    ours, reader = header(service, "shop", "remove"), header(service, "shop", "classify")
    answer = api.get(f"/v1/removals/{removal}/receipt", headers=ours)
    assert (answer.content, answer.headers["Content-Type"]) == (text.encode(), "application/jose+json")
    key = api.get("/v1/receipts/key", headers=reader).text
    assert parse_receipt(answer.text, ReceiptChecker.of(key)).removal == removal

    def is_of(where: dict[str, str]) -> Any:
        return api.post(f"/v1/removals/{removal}/check", json={"filter": where}, headers=ours).json()

    assert [is_of({"subject": subject}) for subject in ("ann", "bob")] == [{"matches": True}, {"matches": False}]
    assert api.get(f"/v1/removals/{removal}/erasure-receipt", headers=ours).status_code == 404
    assert api.get("/v1/receipts/key").status_code == 401
    for stranger, status in ((reader, 403), (header(service, "other"), 404)):
        assert api.get(f"/v1/removals/{removal}/receipt", headers=stranger).status_code == status
        checked = api.post(f"/v1/removals/{removal}/check", json={"filter": {}}, headers=stranger)
        assert checked.status_code == status
