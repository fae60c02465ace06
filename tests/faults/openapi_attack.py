"""The OpenAPI document as an attacker reads it: each operation is sent what is right by it, and what is wrong by it."""

import base64
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.running_service import ENCODER, Stack, fields, unique, until
from tests.support.shape_pictures import as_npy, picture
from visual_memory.schemas.api_key import Scope, TenantKeyRequest
from visual_memory.schemas.background_job import JobState
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.evaluation_request import EvaluationRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, ImagePatch, State
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.api.authenticate import SESSION_COOKIE
from visual_memory.services.api.csrf_token import CSRF_HEADER
from visual_memory.services.api.routes.events import MAX_SECONDS
from visual_memory.services.client.http_client import Client

# Not positive_data_acceptance: that a picture can be decoded, or a label has no empty part, no JSON Schema says.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
    ignored_auth,
]
OF_SESSIONS = {"GET /v1/session", "DELETE /v1/session"}
NOTHING_TO_SEND = {"GET /healthz", "GET /readyz"}
PICTURE = picture("disc")


def attack(stack: Stack, examples: int, *, same: bool) -> Counter[tuple[str, int]]:
    """Send requests to every operation, as the admin of a tenant of its own; how often each answered with each status.

    Args:
        stack: a running service.
        examples: how many right requests to each operation; half as many wrong ones.
        same: whether they are the same each time, and right requests always name what is there.
    """
    answered: Counter[tuple[str, int]] = Counter()
    with Client(stack.url, stack.new_key(unique("document"))) as client:
        headers = {"Authorization": f"Bearer {client.key}"}
        repeated = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=same,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )

        def send(case: Case[Any], headers: dict[str, str] = headers) -> None:
            _end_soon(case)
            answer = case.call(base_url=stack.url, headers=headers, timeout=60)
            answered[case.operation.label, answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS, headers=headers)

        def send_wrong(case: Case[Any]) -> None:
            keyless = case.meta is not None and case.meta.is_negative_at(ParameterLocation.HEADER)
            send(case, {} if keyless else headers)

        def send_real(case: Case[Any], real: bool) -> None:
            in_session = real and case.operation.label in OF_SESSIONS
            send(_with_what_is_there(case, client) if real else case, _session(client) if in_session else headers)

        for found in schemathesis.openapi.from_url(f"{stack.url}/openapi.json").get_all_operations():
            assert isinstance(found, Ok), found
            operation = found.ok()
            right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
            wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
            repeated(given(right, st.just(True) if same else st.booleans())(send_real))()
            _unless_impossible(
                settings(repeated, max_examples=-(-examples // 2))(given(wrong)(send_wrong)), operation.label
            )
        for each in client.evaluations().data:  # no worker is to go on with one
            client.delete_evaluation(each.id)
    return answered


def _session(client: Client) -> dict[str, str]:
    """The headers of a new session of the client's key."""
    answer = httpx.post(f"{client.url}/v1/session", headers={"Authorization": f"Bearer {client.key}"})
    cookie = f"{SESSION_COOKIE}={answer.cookies[SESSION_COOKIE]}"
    return {"Cookie": cookie, CSRF_HEADER: answer.json()["csrf_token"]}


def _end_soon(case: Case[Any]) -> None:
    """Give the stream of events an end, unless its end is what is wrong."""
    given = case.query.get("timeout_seconds", 1.0)
    is_valid = isinstance(given, int | float) and not isinstance(given, bool) and 0 < given <= MAX_SECONDS
    if case.path == "/v1/events" and is_valid:
        case.query["timeout_seconds"] = 0.1


def _unless_impossible(run: Callable[[], None], label: str) -> None:
    try:
        run()
    except Unsatisfiable:
        assert label in NOTHING_TO_SEND, label


def _with_what_is_there(case: Case[Any], client: Client) -> Case[Any]:
    """A case with what no document can say: pictures that are pictures, ids of what is there."""
    _put_ids(case, client)
    if case.path.endswith("replay") and isinstance(case.body, dict):
        case.body.pop("options", None)  # their filter names fields that there are none of
    if case.path.endswith("decisions/preview") and isinstance(case.body, dict):
        case.body = {"action": "mute", "filter": {"source": "nowhere"}}
    if "filter" in case.query:
        case.query["filter"] = json.dumps({"source": case.query["filter"]})
    if isinstance(case.body, dict):
        _put_pictures(case.body, case.path)
        if "/curations" in case.path or "/images/bulk" in case.path:
            case.body = {"action": "unmute", "filter": {"source": "nowhere"}}
    return case


def _put_ids(case: Case[Any], client: Client) -> None:
    if "image_id" in case.path_parameters:
        [image] = client.add([(PICTURE, ImageFields(labels=["x"]))])
        case.path_parameters["image_id"] = image.image_id
        if "If-Match" in case.headers:
            case.headers["If-Match"] = client.image(image.image_id).etag
    if "removal_id" in case.path_parameters:
        case.path_parameters["removal_id"] = _removal(client, case.operation.label)
    if "job_id" in case.path_parameters:
        case.path_parameters["job_id"] = client.judge().id
    if "decision_id" in case.path_parameters:
        [decision] = client.classify([PICTURE], ClassifyOptions(store=True)).decisions
        case.path_parameters["decision_id"] = decision.id
    if "key_id" in case.path_parameters:
        wanted = TenantKeyRequest(name="attacked", scopes=[Scope.READ])
        case.path_parameters["key_id"] = client.create_key(wanted).key.id
    if "change_id" in case.path_parameters:
        case.path_parameters["change_id"] = _change(client)
    if "item_id" in case.path_parameters:
        [image] = client.add([(PICTURE, ImageFields(labels=["x"]))])
        case.path_parameters |= {"kind": "image", "item_id": image.image_id}
    if "evaluation_id" in case.path_parameters:
        case.path_parameters["evaluation_id"] = _evaluation(client, case.operation.label)


def _change(client: Client) -> str:
    """A new change, which can be undone."""
    [image] = client.add([(PICTURE, ImageFields(labels=["x"]))])
    client.amend(image.image_id, ImagePatch(source=unique("source")))
    return client.changes().data[0].id


def _removal(client: Client, label: str) -> str:
    """A removal that this operation can be asked of."""
    erased = label.endswith("erasure-receipt")
    found = [each.id for each in client.removals().data if each.erasure_receipt] if erased else []
    if found:
        return found[0]
    nothing = RemovalRequest(filter=Filter({"source": "nowhere"}), reason="a test", erase_now=erased)
    made = client.remove(nothing).id
    if erased:
        until(lambda: client.removal(made).erasure_receipt, "it to be erased")
    return made


def _evaluation(client: Client, label: str) -> str:
    """An evaluation that this operation can be asked of."""
    if label.startswith("DELETE") or label.endswith("/pictures"):
        return client.evaluate(EvaluationRequest()).id
    done = [each.id for each in client.evaluations().data if each.state is JobState.DONE]
    return done[0] if done else _done(client)


def _done(client: Client) -> str:
    images = [(picture(kind), ImageFields(labels=[kind])) for kind in ("disc", "bars", "disc", "bars")]
    client.add(images)
    until(lambda: {image.state for image in client.images().data} == {State.REMEMBERED}, "all to be remembered")
    made = client.evaluate(EvaluationRequest())
    client.add_to_evaluation(made.id, images)
    ended = (JobState.DONE, JobState.FAILED)
    until(lambda: client.start_evaluation(made.id).state in ended, "the evaluation to be done")
    return made.id


def _put_pictures(body: dict[str, Any], path: str) -> None:
    if body.get("encoder") is not None:
        body["encoder"] = ENCODER
    if path.endswith("/v1/vectors"):
        vectors = as_npy(np.ones((1, 1280), np.float32))
        body |= {"vectors": vectors, "fields": fields(labels=["x"])}
    text = base64.b64encode(PICTURE).decode()
    if "files" in body:
        body["files"] = [PICTURE]
        classified = path.endswith("classify")
        body |= {"options": fields(k=3)} if classified else {"fields": [fields(labels=["x"])]}
    for image in body.get("images", []):
        image["picture"] = text
        image.pop("url", None)
    if path.endswith("classify") and "files" not in body:
        body["pictures"] = [text]
        body.pop("urls", None)
        body.pop("vectors", None)
