"""Promises 5 and 7: nobody gets in without a key, and a tenant sees, changes and infers nothing of another."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np
import pytest
import redis

from tests.support.running_service import ENCODER, Stack, suspended, unique, until
from tests.support.shape_pictures import as_npy, picture
from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.curation_request import Action, CurationRequest
from visual_memory.schemas.evaluation_request import EvaluationRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, State
from visual_memory.schemas.receipt import PublicKey
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.schemas.usage import Measure, Usage
from visual_memory.services.client.http_client import Client
from visual_memory.services.infrastructure.redis_streams.stream_metrics import GAUGES
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.infrastructure.task_queue.job_records import Jobs

PICTURE = picture("disc")
TENANT = "access"
OPEN = {("GET", "/healthz"), ("GET", "/readyz")}


@dataclass(frozen=True)
class Scene:
    """What is there of this module's tenant, a tenant that has nothing, and a client without a key."""

    stack: Stack
    image_id: str
    removal_id: str
    decision_id: str
    evaluation_id: str
    change_id: str
    job_id: str
    other: str
    http: httpx.Client
    key_id: str = "0" * 12


@dataclass(frozen=True)
class Call:
    """The least that a route answers well to, and what it answers to a tenant that has nothing.

    Attributes:
        arguments: of the request, as httpx takes them.
        status: of the answer to its own tenant.
        elsewhere: checks the answer to another tenant.
        others: scopes that open it too, beside its own and ``admin``.
    """

    scope: Scope
    elsewhere: Callable[[httpx.Response], bool]
    status: int = 200
    arguments: Mapping[str, Any] | None = None
    others: tuple[Scope, ...] = ()

    @property
    def scopes(self) -> tuple[Scope, ...]:
        return (self.scope, *self.others, Scope.ADMIN)


def missing(answer: httpx.Response) -> bool:
    return answer.status_code == 404 and answer.json()["code"] == "not_found"


def exactly(empty: object) -> Callable[[httpx.Response], bool]:
    return lambda answer: answer.status_code == 200 and answer.json() == empty


def empty_list(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.json() == {"data": [], "next_cursor": None, "has_more": False}


def the_encoder(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.json()["data"] == [{"name": ENCODER, "dimension": 1280, "active": True}]


def the_key(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and PublicKey.model_validate_json(answer.content) is not None


def own_tenant(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.json()["tenant"].startswith("empty")


def own_session(answer: httpx.Response) -> bool:
    return answer.status_code == 201 and answer.json().keys() == {"key", "expires_at", "csrf_token"}


def own_keys(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and len(answer.json()["data"]) == 1


def own_key(answer: httpx.Response) -> bool:
    return answer.status_code == 201 and answer.json()["key"]["tenant"].startswith("empty")


def nobody_voted(answer: httpx.Response) -> bool:
    [decision] = answer.json()["decisions"]
    return (
        decision["reason"] == "the memory is empty: no image is remembered yet"
        and decision["label"] is None
        and (decision["voters"], decision["shares"], decision["neighbours"]) == (0, [], [])
    )


def own_job(answer: httpx.Response) -> bool:
    return answer.status_code == 202 and answer.json()["requested_by"].startswith("a test's")


def not_judged(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.json() == {"current": None, "stale": False, "job": None}


def no_decision(answer: httpx.Response) -> bool:
    preview = answer.json()
    return (preview["images"], preview["decisions"], preview["touched"], preview["changed"]) == (0, 0, 0, [])


def nothing_covered(answer: httpx.Response) -> bool:
    preview = answer.json()
    return (preview["images"], preview["samples"], preview["decisions"], preview["backups"]) == (0, [], 0, [])


def nothing_removed(answer: httpx.Response) -> bool:
    receipt = answer.json()
    return (receipt["status"], receipt["images"], receipt["by_state"], receipt["pictures"]) == ("done", 0, {}, 0)


def nothing_changed(answer: httpx.Response) -> bool:
    change = answer.json()
    return (change["action"], change["state"], change["images"], change["skipped"]) == ("unmute", "done", 0, 0)


def nothing_would_change(answer: httpx.Response) -> bool:
    preview = answer.json()
    counts = [preview[name] for name in ("images", "unchanged", "missing", "by_label", "by_state", "samples")]
    return counts == [0, 0, 0, {}, {}, []]


def undone(client: Client) -> str:
    """A change of an image that was undone."""
    made = client.curate(CurationRequest(action=Action.MUTE, filter=Filter({"source": "nowhere"})))
    client.undo(made.id)
    return made.id


def begun(answer: httpx.Response) -> bool:
    job = answer.json()
    return (job["state"], job["pictures"], job["summary"]) == ("collecting", 0, None)


def nothing_counted(answer: httpx.Response) -> bool:
    samples = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    return len(samples) == len(State) + len(Measure) + len(GAUGES) and all(
        line.endswith(" 0.0") and TENANT not in line for line in samples
    )


def nothing_used(answer: httpx.Response) -> bool:
    usage = Usage.model_validate_json(answer.content)
    counted = [getattr(day, measure) for day in usage.days for measure in Measure]
    return len(usage.days) == 30 and not any((usage.decisions, *usage.images.values(), *counted))


SENT = {"files": [("files", ("p", PICTURE))], "data": {"fields": json.dumps({"labels": ["x"], "image_id": "sent"})}}
VECTOR = {
    "files": {"vectors": ("v.npy", as_npy(np.ones((1, 1280), np.float32)))},
    "data": {"encoder": ENCODER, "fields": json.dumps({"labels": ["x"], "image_id": "vector"})},
}
ASKED: dict[str, Any] = {"files": [("files", ("p", PICTURE))]}
CURATION = {"json": {"action": "unmute", "filter": {"state": "muted"}}}
REMOVAL = {"json": {"everything": True, "reason": "a test"}}
PREVIEW = {"json": {"action": "mute", "filter": {}}}
LOOKS = (Scope.READ,)
CHANGED = "/v1/changes/{change_id}"
IMAGE, REMOVED = "/v1/images/{image_id}", "/v1/removals/{removal_id}"
REVIEWED = "/v1/review/{kind}/{item_id}"
DECIDED, EVALUATED = "/v1/decisions/{decision_id}", "/v1/evaluations/{evaluation_id}"
NEW_KEY = {"json": {"name": "another", "scopes": ["read"]}}
KEY, EVERY_SCOPE = "/v1/keys/{key_id}", (Scope.READ, Scope.REMEMBER, Scope.REMOVE)
CALLS: dict[tuple[str, str], Call] = {
    ("POST", "/v1/images"): Call(
        Scope.REMEMBER, lambda answer: answer.json()["data"][0]["state"] == "waiting", 202, SENT
    ),
    ("POST", "/v1/vectors"): Call(
        Scope.REMEMBER, lambda answer: answer.json()["data"][0]["state"] == "remembered", 200, VECTOR
    ),
    ("GET", "/v1/images"): Call(Scope.READ, empty_list),
    ("POST", "/v1/images/search"): Call(Scope.READ, empty_list, arguments={"json": {}}),
    ("GET", IMAGE): Call(Scope.READ, missing),
    ("PATCH", IMAGE): Call(Scope.REMEMBER, missing, arguments={"json": {"source": "another"}}),
    ("GET", IMAGE + "/picture"): Call(Scope.READ, missing),
    ("GET", IMAGE + "/thumbnail"): Call(Scope.READ, missing),
    ("GET", "/v1/labels"): Call(Scope.CLASSIFY, empty_list, others=LOOKS),
    ("POST", "/v1/classify"): Call(Scope.CLASSIFY, nobody_voted, arguments=ASKED),
    ("POST", "/v1/judgements"): Call(Scope.REMEMBER, own_job, 202),
    ("GET", "/v1/judgement"): Call(Scope.CLASSIFY, not_judged, others=LOOKS),
    ("GET", "/v1/suspects"): Call(Scope.READ, empty_list),
    ("GET", "/v1/review"): Call(Scope.READ, empty_list),
    ("PUT", REVIEWED): Call(Scope.REMEMBER, missing),
    ("DELETE", REVIEWED): Call(Scope.REMEMBER, missing, 204),
    ("POST", "/v1/review/claims"): Call(Scope.READ, empty_list, arguments={"json": {"limit": 1}}),
    ("DELETE", "/v1/review/claims"): Call(Scope.READ, lambda answer: answer.status_code == 204, 204),
    ("POST", "/v1/curations"): Call(Scope.REMEMBER, nothing_changed, arguments=CURATION),
    ("POST", "/v1/curations/preview"): Call(Scope.REMEMBER, nothing_would_change, arguments=CURATION),
    ("POST", "/v1/images/bulk"): Call(Scope.REMEMBER, nothing_changed, arguments=CURATION),
    ("POST", "/v1/images/bulk/preview"): Call(Scope.REMEMBER, nothing_would_change, arguments=CURATION),
    ("GET", "/v1/changes"): Call(Scope.READ, empty_list, others=(Scope.REMEMBER,)),
    ("GET", CHANGED): Call(Scope.READ, missing, others=(Scope.REMEMBER,)),
    ("POST", CHANGED + "/undo"): Call(Scope.REMEMBER, missing, 409),
    ("GET", "/v1/encoders"): Call(Scope.CLASSIFY, the_encoder, others=EVERY_SCOPE),
    ("GET", "/v1/decisions"): Call(Scope.READ, empty_list),
    ("POST", "/v1/decisions/preview"): Call(Scope.READ, no_decision, arguments=PREVIEW),
    ("GET", DECIDED): Call(Scope.READ, missing),
    ("DELETE", DECIDED): Call(Scope.REMOVE, missing, 204),
    ("POST", DECIDED + "/replay"): Call(Scope.READ, missing, arguments={"json": {}}),
    ("POST", DECIDED + "/counterfactual"): Call(Scope.READ, missing),
    ("POST", "/v1/influence"): Call(Scope.READ, exactly({"decisions": 0, "images": [], "labels": [], "sources": []})),
    ("GET", "/v1/jobs"): Call(Scope.READ, empty_list, others=(Scope.CLASSIFY, Scope.REMEMBER)),
    ("GET", "/v1/jobs/{job_id}"): Call(Scope.READ, missing, others=(Scope.CLASSIFY, Scope.REMEMBER)),
    ("POST", "/v1/jobs/{job_id}/cancel"): Call(Scope.REMEMBER, missing),
    ("POST", "/v1/removals"): Call(Scope.REMOVE, nothing_removed, 202, REMOVAL),
    ("POST", "/v1/removals/preview"): Call(Scope.REMOVE, nothing_covered, arguments=REMOVAL),
    ("GET", "/v1/removals"): Call(Scope.REMOVE, empty_list),
    ("GET", REMOVED): Call(Scope.REMOVE, missing),
    ("GET", REMOVED + "/receipt"): Call(Scope.REMOVE, missing),
    ("GET", REMOVED + "/erasure-receipt"): Call(Scope.REMOVE, missing, 404),
    ("POST", REMOVED + "/check"): Call(Scope.REMOVE, missing, arguments={"json": {"filter": {"image_id": "gone"}}}),
    ("GET", "/v1/receipts/key"): Call(Scope.REMOVE, the_key, others=(Scope.CLASSIFY, Scope.READ, Scope.REMEMBER)),
    ("DELETE", IMAGE): Call(Scope.REMOVE, missing, 202),
    ("POST", "/v1/evaluations"): Call(Scope.CLASSIFY, begun, 201, {"json": {}}),
    ("GET", "/v1/evaluations"): Call(Scope.CLASSIFY, empty_list, others=LOOKS),
    ("GET", EVALUATED): Call(Scope.CLASSIFY, missing, others=LOOKS),
    ("POST", EVALUATED + "/pictures"): Call(Scope.CLASSIFY, missing, 202, SENT),
    ("POST", EVALUATED + "/start"): Call(Scope.CLASSIFY, missing, 202),
    ("GET", EVALUATED + "/report"): Call(Scope.CLASSIFY, missing, others=LOOKS),
    ("DELETE", EVALUATED): Call(Scope.REMOVE, missing),
    ("GET", "/metrics"): Call(Scope.ADMIN, nothing_counted),
    ("GET", "/v1/usage"): Call(Scope.ADMIN, nothing_used),
    ("GET", "/v1/events"): Call(
        Scope.READ, lambda answer: "data:" not in answer.text, arguments={"params": {"timeout_seconds": 0.1}}
    ),
    ("GET", "/v1/me"): Call(Scope.CLASSIFY, own_tenant, others=EVERY_SCOPE),
    ("POST", "/v1/session"): Call(Scope.CLASSIFY, own_session, 201, others=EVERY_SCOPE),
    ("GET", "/v1/session"): Call(Scope.CLASSIFY, missing, 404, others=EVERY_SCOPE),
    ("DELETE", "/v1/session"): Call(Scope.CLASSIFY, missing, 404, others=EVERY_SCOPE),
    ("GET", "/v1/keys"): Call(Scope.ADMIN, own_keys),
    ("POST", "/v1/keys"): Call(Scope.ADMIN, own_key, 201, NEW_KEY),
    ("GET", KEY): Call(Scope.ADMIN, missing),
    ("POST", KEY + "/rotate"): Call(Scope.ADMIN, missing),
    ("DELETE", KEY): Call(Scope.ADMIN, missing),
    ("GET", "/v1/audit"): Call(Scope.ADMIN, empty_list),
    ("GET", "/v1/intake/dead"): Call(Scope.READ, empty_list),
}
ROUTES = [pytest.param(route, call, id=" ".join(route)) for route, call in CALLS.items()]


def ask(scene: Scene, route: tuple[str, str], call: Call, headers: Mapping[str, str]) -> httpx.Response:
    """Send a route's request with these headers."""
    method, path = route
    path = path.format(
        image_id=scene.image_id,
        kind="image",
        item_id=scene.image_id,
        removal_id=scene.removal_id,
        decision_id=scene.decision_id,
        evaluation_id=scene.evaluation_id,
        change_id=scene.change_id,
        job_id=scene.job_id,
        key_id=scene.key_id,
    )
    sent = {name.encode(): value.encode() for name, value in headers.items()}
    answer = scene.http.request(method, path, headers=sent, **(call.arguments or {}))
    scene.http.cookies.clear()
    return answer


def unended_job(stack: Stack, tenant: str) -> str:
    """A judgement that no worker begins."""
    return Jobs(stack.database).create(tenant, JobKind.JUDGEMENT, "a test", JobState.COLLECTING).id


def bearer(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def anonymous(stack: Stack) -> Iterator[httpx.Client]:
    with stack.caller(None) as http:
        yield http


@pytest.fixture(scope="module")
def scene(stack: Stack, anonymous: httpx.Client) -> Scene:
    assert stack.tenant == TENANT
    [image_id] = stack.remembered(stack.teach(picture("disc"), labels=["private"], image_id=unique("private")))
    nothing = {"filter": {"source": unique("nowhere")}, "reason": "a test"}
    removal = stack.http.post("/v1/removals", json=nothing).json()["id"]
    evaluation = stack.client.evaluate(EvaluationRequest())
    decision_id, change_id, job_id = decide(stack.client), undone(stack.client), unended_job(stack, TENANT)
    key_id, other = stack.new_key().split("_")[1], unique("other")
    return Scene(stack, image_id, removal, decision_id, evaluation.id, change_id, job_id, other, anonymous, key_id)


def test_the_table_has_every_route(stack: Stack) -> None:
    document = stack.http.get("/openapi.json").json()
    known = {(verb.upper(), path) for path, operations in document["paths"].items() for verb in operations}
    assert known == CALLS.keys() | OPEN, "say in CALLS how a new route is asked, and what it tells another tenant"


MALFORMED: list[tuple[str, Callable[[str], Mapping[str, str]]]] = [
    ("no key", lambda _: {}),
    ("an empty header", lambda _: {"Authorization": ""}),
    ("an empty key", lambda _: {"Authorization": "Bearer"}),
    ("no scheme", lambda key: {"Authorization": key}),
    ("another scheme", lambda key: {"Authorization": f"Basic {key}"}),
    ("base64", lambda key: {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}),
    ("another header", lambda key: {"X-API-Key": key}),
    ("a cookie", lambda key: {"Cookie": f"Authorization=Bearer {key}"}),
    ("cut off", lambda key: bearer(key[:-1])),
    ("longer", lambda key: bearer(key + "x")),
    ("two", lambda key: bearer(f"{key} {key}")),
    ("no ASCII", lambda key: bearer(key[:-1] + "é")),
    ("unknown", lambda key: bearer(f"vm_{'0' * 12}_{key[16:]}")),
    ("a wrong secret", lambda key: bearer(key[:16] + key[16:][::-1])),
]


def without_request_id(answer: httpx.Response) -> str:
    return answer.text.replace(answer.headers["x-request-id"], "")


def try_without_a_valid_key(scene: Scene, route: tuple[str, str], call: Call) -> int:
    """Every answer is 401, and all are alike; how many requests that were."""
    good = scene.stack.new_key()
    answers = {name: ask(scene, route, call, spoil(good)) for name, spoil in MALFORMED}
    revoked = scene.stack.new_key()
    scene.stack.keys.revoke(revoked.split("_")[1])
    answers["revoked"] = ask(scene, route, call, bearer(revoked))
    told = {name: (answer.status_code, without_request_id(answer)) for name, answer in answers.items()}
    assert {status for status, _ in told.values()} == {401}, told
    assert len(set(told.values())) == 1, "why a key is refused is not told"
    assert {answer.headers["www-authenticate"] for answer in answers.values()} == {"Bearer"}
    return len(answers)


def try_without_the_scope(scene: Scene, route: tuple[str, str], call: Call) -> int:
    """Every answer is 403; how many requests that were."""
    wrong = [scope for scope in Scope if scope not in call.scopes]
    for scope in wrong:
        answer = ask(scene, route, call, bearer(scene.stack.new_key(None, scope)))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), scope
    return len(wrong)


def try_with_another_tenant_s_key(scene: Scene, route: tuple[str, str], call: Call) -> int:
    """The answer tells nothing and changes nothing; how many requests that were."""
    key = scene.stack.new_key(unique("empty"), call.scope)
    before = scene.stack.client.image(scene.image_id)
    answer = ask(scene, route, call, bearer(key))
    assert call.elsewhere(answer), answer.text
    assert "private" not in answer.text.replace(scene.image_id, "")
    assert scene.stack.client.image(scene.image_id) == before
    return 1


TRIES = (try_without_a_valid_key, try_without_the_scope, try_with_another_tenant_s_key)


@pytest.mark.parametrize("try_it", TRIES)
@pytest.mark.parametrize(("route", "call"), ROUTES)
def test_nobody_gets_in(
    scene: Scene, route: tuple[str, str], call: Call, try_it: Callable[[Scene, tuple[str, str], Call], int]
) -> None:
    opens_to_any = try_it is try_without_the_scope and {*call.scopes} == {*Scope}
    assert (try_it(scene, route, call) > 0) != opens_to_any


def filled(scene: Scene, *, done: bool = False) -> tuple[str, Scene]:
    """A new tenant and what is there of it, with an evaluation that waits to be started or is done."""
    tenant = unique("own")
    with Client(scene.stack.url, scene.stack.new_key(tenant)) as client:
        image_id, removal_id, decision_id = fill(client, "own")
        evaluation_id, change_id = evaluated(client) if done else asked(client), undone(client)
    return tenant, replace(
        scene,
        image_id=image_id,
        removal_id=removal_id,
        decision_id=decision_id,
        evaluation_id=evaluation_id,
        job_id=unended_job(scene.stack, tenant),
        key_id=scene.stack.new_key(tenant).split("_")[1],
        change_id=change_id,
    )


@pytest.fixture(scope="module")
def seen(scene: Scene) -> tuple[str, Scene]:
    """A tenant for all requests that change nothing."""
    return filled(scene, done=True)


@pytest.mark.parametrize(("route", "call"), ROUTES)
def test_with_the_scope_the_route_answers(
    scene: Scene, seen: tuple[str, Scene], route: tuple[str, str], call: Call
) -> None:
    """So that the refusals above are of good requests. A tenant of its own, for one of them removes everything."""
    tenant, own = seen if route[0] == "GET" else filled(scene)
    for scope in call.scopes if route[0] != "DELETE" else (call.scope,):
        answer = ask(own, route, call, bearer(scene.stack.new_key(tenant, scope)))
        assert answer.status_code == call.status, answer.text


def test_a_revoked_key_hears_no_more_events(stack: Stack) -> None:
    key = stack.new_key(TENANT, Scope.READ)
    with stack.caller(key) as http, http.stream("GET", "/v1/events") as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        stack.keys.revoke(key.split("_")[1])
        begun = time.monotonic()
        assert [*lines], "the stream ends as it should"
        assert time.monotonic() - begun < 10


def test_what_a_listener_asks_for_wrongly_is_refused(stack: Stack) -> None:
    for wrong, code in (({"types": "accepted,nothing"}, "invalid_parameter"), ({"cursor": "9"}, "invalid_cursor")):
        answer = stack.http.get("/v1/events", params=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize(("route", "call"), ROUTES)
def test_only_who_may_read_sees_the_fields_of_images(
    stack: Stack, private: Scene, route: tuple[str, str], call: Call
) -> None:
    """A key with every other scope: of an image it sees ids, labels and states, and of whom it shows nothing."""
    key = stack.new_key(PRIVATE, Scope.CLASSIFY, Scope.REMEMBER)
    answer = ask(private, route, call, bearer(key))
    assert SUBJECT not in answer.text
    assert "metadata" not in answer.text
    if answer.status_code < 300 and "json" in answer.headers["content-type"]:
        assert "similarity" in answer.text or SOURCE not in answer.text


PRIVATE, SUBJECT, SOURCE = "private-fields", "a-subject-of-its-own", "a-source-of-its-own"


@pytest.fixture(scope="module")
def private(stack: Stack, anonymous: httpx.Client) -> Scene:
    with Client(stack.url, stack.new_key(PRIVATE)) as client:
        said = ImageFields(labels=["own"], image_id="one", source=SOURCE, subject=SUBJECT)
        client.add([(PICTURE, said)])
        until(lambda: {image.state for image in client.images().data} == {State.REMEMBERED}, "it to be remembered")
        removal = client.remove(RemovalRequest(filter=Filter({"image_id": "gone"}), reason="a test"))
        return Scene(
            stack,
            "one",
            removal.id,
            decide(client),
            evaluated(client),
            undone(client),
            unended_job(stack, PRIVATE),
            "",
            anonymous,
        )


def test_a_key_that_only_remembers_reads_and_deletes_nothing(stack: Stack, private: Scene) -> None:
    """Reproduced before: `PATCH {}` showed any image, and `expires_at` deleted it without a name."""
    image, soon, late = "/v1/images/one", "2027-01-01T00:00:00Z", "2030-01-01T00:00:00Z"
    with (
        stack.caller(stack.new_key(PRIVATE, Scope.REMEMBER)) as http,
        stack.caller(stack.new_key(PRIVATE, Scope.REMEMBER, Scope.REMOVE)) as remover,
    ):
        shown = http.patch(image, json={})
        assert (shown.status_code, shown.json()["state"]) == (200, "remembered")
        assert shown.json().keys() <= {"image_id", "state", "other_labels"}
        sent = {"image_id": "one", "labels": ["own"], "source": SOURCE, "subject": SUBJECT}
        parts = [("files", ("p", PICTURE))]
        shorter = [
            http.patch(image, json={"expires_at": soon}),
            http.post("/v1/images", files=parts, data={"fields": json.dumps({**sent, "expires_at": soon})}),
            http.post(
                "/v1/images",
                files=[("files", ("p", picture("cross")))],
                data={"fields": json.dumps({**sent, "expires_at": soon})},
            ),
        ]
        assert {answer.status_code for answer in shorter} == {403}
        assert all("remove" in answer.json()["detail"] for answer in shorter)
        assert remover.patch(image, json={"expires_at": soon}).status_code == 200
        assert http.patch(image, json={"expires_at": late}).status_code == 200, "later is no deletion"
        assert http.patch(image, json={"expires_at": soon}).status_code == 403
        assert http.patch(image, json={"expires_at": None}).status_code == 200
        for named in ({"subject": SUBJECT}, {"file_name": "one.png"}):
            looked = {"action": "mute", "filter": named}
            for path in ("/v1/curations", "/v1/images/bulk"):
                assert {http.post(f"{path}{end}", json=looked).status_code for end in ("", "/preview")} == {403}
        for where in ({"image_ids": ["one"]}, {"filter": {"labels": "own"}}):
            asked = {"action": "amend", "patch": {"expires_at": soon}, **where}
            assert {http.post(f"/v1/images/bulk{end}", json=asked).status_code for end in ("", "/preview")} == {403}
            shown = http.post("/v1/images/bulk/preview", json={"action": "mute", **where}).json()
            assert (shown["images"], shown["samples"], shown["by_label"]) == (1, [], {})


def test_who_only_asks_learns_nothing_of_subjects_and_deletes_nothing(stack: Stack, private: Scene) -> None:
    where = json.dumps({"subject": SUBJECT})
    with stack.caller(stack.new_key(PRIVATE, Scope.CLASSIFY)) as http:
        asked = http.post("/v1/classify", **ASKED, data={"options": json.dumps({"filter": {"subject": SUBJECT}})})
        assert {asked.status_code, http.get("/v1/labels", params={"filter": where}).status_code} == {403}
        assert http.delete(f"/v1/evaluations/{private.evaluation_id}").status_code == 403
        assert http.delete(f"/v1/decisions/{private.decision_id}").status_code == 403
    with stack.caller(stack.new_key(PRIVATE, Scope.CLASSIFY, Scope.READ)) as http:
        asked = http.post("/v1/classify", **ASKED, data={"options": json.dumps({"filter": {"subject": SUBJECT}})})
        assert asked.json()["decisions"][0]["voters"] == 1
        assert http.get("/v1/labels", params={"filter": where}).json()["data"][0]["images"] == 1


def fill(client: Client, label: str, image_id: str = "one") -> tuple[str, str, str]:
    """Teach a picture, remove another one, and store a decision; the ids of the first, of the removal and of that."""
    said = ImageFields(labels=[label], image_id=image_id, source=label, subject="ann")
    client.add([(PICTURE, said), (picture("bars"), said.model_copy(update={"image_id": "gone"}))])
    until(lambda: {image.state for image in client.images().data} == {State.REMEMBERED}, "both to be remembered")
    removal = client.remove(RemovalRequest(filter=Filter({"image_id": "gone"}), reason=f"asked by {label}", block=True))
    assert removal.images == 1
    return image_id, removal.id, decide(client)


def decide(client: Client) -> str:
    """Store a decision; its id."""
    return str(client.classify([PICTURE], ClassifyOptions(store=True)).decisions[0].id)


def asked(client: Client) -> str:
    """An evaluation that has a picture to ask about, and waits to be started; its id."""
    evaluation_id = client.evaluate(EvaluationRequest()).id
    return client.add_to_evaluation(evaluation_id, [(PICTURE, ImageFields(labels=["own"]))]).id


def evaluated(client: Client) -> str:
    """An evaluation that is done; its id."""
    evaluation_id = client.start_evaluation(asked(client)).id
    until(lambda: client.evaluation(evaluation_id).state is JobState.DONE, "the evaluation to be done")
    return evaluation_id


@dataclass(frozen=True)
class Two:
    """Two tenants with the same ids and the same pictures; labels, sources and reasons tell whose they are."""

    north: Client
    south: Client
    removals: tuple[str, str]
    decisions: tuple[str, str]

    def told(self, client: Client) -> dict[str, str]:
        """Everything that can be asked for without changing anything, in words."""
        with httpx.Client(base_url=client.url, headers=bearer(client.key), trust_env=False, timeout=60) as http:
            asked = {
                path: http.get(path, **(call.arguments or {}))
                for (method, path), call in CALLS.items()
                if method == "GET" and "{" not in path
            }
            asked |= {path: http.get(path) for path in ("/v1/images/one", "/v1/images/one/thumbnail")}
            asked["/v1/influence"] = http.post("/v1/influence")
            asked["classify"] = http.post("/v1/classify", **ASKED)
            asked["preview"] = http.post("/v1/removals/preview", json={"everything": True, "reason": "x"})
            return {name: answer.text for name, answer in asked.items()}


@pytest.fixture
def two(stack: Stack) -> Iterator[Two]:
    north, south = unique("north"), unique("south")
    with Client(stack.url, stack.new_key(north)) as first, Client(stack.url, stack.new_key(south)) as second:
        filled = fill(first, north), fill(second, south)
        yield Two(first, second, *((filled[0][at], filled[1][at]) for at in (1, 2)))


def test_nothing_that_one_can_ask_tells_of_the_other(two: Two) -> None:
    for client, own, foreign in ((two.north, "north-", "south-"), (two.south, "south-", "north-")):
        told = two.told(client)
        assert {name for name, text in told.items() if foreign in text} == set()
        telling = {"/v1/images", "/v1/images/one", "/v1/labels", "/v1/removals", "/v1/audit", "classify"}
        telling |= {"/v1/decisions", "/v1/influence", "/v1/me", "/v1/keys", "preview"}
        assert {name for name, text in told.items() if own in text} == telling
    assert [len(client.images().data) for client in (two.north, two.south)] == [1, 1]
    assert [each.images for client in (two.north, two.south) for each in client.labels().data] == [1, 1]
    [decision] = two.north.classify([PICTURE]).decisions
    assert decision.voters == 1
    assert decision.neighbours[0].similarity == pytest.approx(1, abs=1e-4)


def test_usage_counts_the_tenant_s_own_deeds(two: Two) -> None:
    wanted = {"images_accepted": 2, "images_remembered": 2, "images_removed": 1, "images_rejected": 0}
    for client in (two.north, two.south):
        until(lambda client=client: _used(client, wanted) == wanted, "the workers' counts to be written")  # type: ignore[misc]
        usage = client.usage()
        assert usage.images[State.REMEMBERED] == 1
        assert usage.days[-1].picture_bytes_accepted > len(PICTURE)
        assert client.usage(usage.days[-1].day, usage.days[-1].day).days == usage.days[-1:]
        samples = [line.rsplit(" ", 1) for line in two.told(client)["/metrics"].splitlines()]
        today = {name: float(value) for name, value in samples if name.startswith("visual_memory_usage_today")}
        assert today['visual_memory_usage_today{measure="images_removed"}'] == 1
        assert not any("tenant" in name for name, _ in samples)


@pytest.mark.parametrize("days", [("2026-02-01", "2026-01-31"), ("2024-12-27", "2026-01-31"), ("0001-01-01", None)])
def test_usage_refuses_days_that_are_none_or_too_many(stack: Stack, days: tuple[str, str | None]) -> None:
    asked = {name: day for name, day in zip(("from", "to"), days, strict=True) if day}
    answer = stack.http.get("/v1/usage", params=asked)
    assert answer.status_code == 422
    assert "at most 400 days" in answer.json()["detail"]
    first = stack.http.get("/v1/usage", params={"to": "0001-01-02"}).json()["days"]
    assert [day["day"] for day in first] == ["0001-01-01", "0001-01-02"]


def _used(client: Client, measures: Collection[str]) -> dict[str, int]:
    today = client.usage().days[-1].model_dump()
    return {name: today[name] for name in measures}


def test_an_id_of_another_tenant_and_one_of_nobody_are_answered_alike(two: Two) -> None:
    """Byte for byte but for the id itself; the way through the code is the same, so the time is too."""
    taught = two.north.add([(picture("cross"), _fields("secret-of-north"))])
    assert taught[0].image_id == "secret-of-north"
    removals = (two.removals[0], "00000000-0000-4000-8000-000000000000")
    decisions = (two.decisions[0], "20260101T000000000000-00000000")
    evaluations = (asked(two.north), removals[1])
    keys = (str(two.north.key).split("_")[1], "0" * 12)
    changes = (undone(two.north), removals[1])
    images = ("secret-of-north", "secret-of-nobody")
    with httpx.Client(base_url=two.south.url, headers=bearer(two.south.key), trust_env=False) as http:
        for (method, path), call in CALLS.items():
            if "{" not in path:
                continue
            answers = []
            for ids in zip(images, removals, decisions, evaluations, changes, keys, strict=True):
                names = ("image_id", "removal_id", "decision_id", "evaluation_id", "change_id", "key_id")
                named = dict(zip(names, ids, strict=True))
                named |= {"job_id": named["evaluation_id"], "kind": "image", "item_id": named["image_id"]}
                asked_for = path.format(**named)
                answer = http.request(method, asked_for, **(call.arguments or {}))
                varying = {"x-request-id", "date", "content-length"}
                headers = {name: value for name, value in answer.headers.items() if name not in varying}
                text = re.sub("|".join(map(re.escape, ids)), "ID", without_request_id(answer))
                answers.append((answer.status_code, headers, text))
            assert answers[0] == answers[1], path
            assert answers[0][0] == 404, path
        where = [http.get("/v1/images", params={"filter": json.dumps({"image_id": each})}) for each in images]
        assert where[0].content == where[1].content


def _fields(image_id: str) -> Any:
    return ImageFields(labels=["x"], image_id=image_id)


def test_a_cursor_of_one_leads_the_other_to_nothing_of_it(two: Two) -> None:
    for number in range(3):
        two.north.add([(picture("disc"), _fields(f"page-{number}"))])
    with httpx.Client(base_url=two.north.url, headers=bearer(two.north.key), trust_env=False) as http:
        cursor = http.get("/v1/images", params={"limit": 1}).json()["next_cursor"]
    with httpx.Client(base_url=two.south.url, headers=bearer(two.south.key), trust_env=False) as http:
        page = http.get("/v1/images", params={"limit": 9, "cursor": cursor}).json()["data"]
    assert all(image["labels"][0].startswith("south") for image in page)


def test_what_one_removes_and_blocks_the_other_keeps(stack: Stack) -> None:
    north, south = unique("north"), unique("south")
    with Client(stack.url, stack.new_key(north)) as first, Client(stack.url, stack.new_key(south)) as second:
        fill(first, north)
        fill(second, south)
        before = second.images().data, second.picture("one")
        everything = RemovalRequest(everything=True, reason="all of it", block=True)
        assert first.remove(everything).images == 1
        assert (second.images().data, second.picture("one")) == before
        assert second.classify([PICTURE]).decisions[0].label == south
        second.add([(PICTURE, _fields("two"))])
        assert [each.reason for each in second.removals().data] == [f"asked by {south}"]
        assert all(line.by == "a test's" for line in second.audit().data)
        assert {line.tenant for line in second.audit().data} == {south}


def test_a_key_that_is_revoked_or_rotated_by_command_is_out_soon(stack: Stack) -> None:
    around = {name: value for name, value in os.environ.items() if not name.startswith("VISUAL_MEMORY_")}
    environment = {**around, "VISUAL_MEMORY_DATA": str(stack.data), "VISUAL_MEMORY_CONFIG": os.devnull}

    def command(*words: str) -> dict[str, Any]:
        run = [sys.executable, "-m", "visual_memory.services.cli", "keys", *words, "--json"]
        done = subprocess.run(run, env=environment, stdout=subprocess.PIPE, check=True, timeout=60)
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def status(key: str) -> int:
        with stack.caller(key) as http:
            return http.get("/v1/labels").status_code

    made = command("make", "camera", "--scope", "classify")
    assert status(made["text"]) == 200
    rotated = command("rotate", made["id"])
    until(lambda: status(made["text"]) == 401, "the old secret to be out")
    until(lambda: status(rotated["text"]) == 200, "the new secret to be in")
    command("revoke", made["id"])
    until(lambda: status(rotated["text"]) == 401, "the key to be out")


def counts_in_redis(stack: Stack, key: str) -> list[bytes]:
    """Under what names Redis counts for a key."""
    with redis.Redis(unix_socket_path=str(DataPaths(stack.data).redis_socket)) as server:
        found: Any = server.keys(f"*limits*{key.split('_')[1]}*")
        return list(found)


@pytest.fixture
def counted(stack: Stack) -> Stack:
    """A service that counts in Redis: it may have been left alone for a while, since a test made it hang."""

    def counts() -> bool:
        key = stack.new_key(None, "classify", requests_per_minute=1)
        with stack.caller(key) as http:
            return http.get("/v1/labels").status_code == 200 and bool(counts_in_redis(stack, key))

    until(counts, "limits to be counted in Redis")
    return stack


def test_limits_hold_while_redis_hangs(counted: Stack) -> None:
    key = counted.new_key(None, "classify", requests_per_minute=3)
    with counted.caller(key) as http, suspended(counted.child("redis")):
        answers = [http.get("/v1/labels") for _ in range(4)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429], "this process counts by itself"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
