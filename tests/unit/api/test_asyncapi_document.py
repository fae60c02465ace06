"""What is published of the streams is right: by AsyncAPI's own schema, and by what is taken and refused."""

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.support.intake_events import image_data, image_event, removal_event, s3_notification, s3_record
from tests.unit.schemas.test_intake_event import FIELDS, NO_EVENTS, REFUSED
from visual_memory.schemas.intake_event import ImageEvent, RemovalEvent
from visual_memory.services.api.asyncapi_document import asyncapi, event_schema
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys

SPECIFICATION = Path(__file__).parents[2] / "fixtures" / "asyncapi-3.0.0.json.xz"
BEYOND = {
    *("an unseen character", "no base64"),
    *("no JSON", "nothing", "another encoding", "nested too deeply", "a number of 10,000 digits"),
    *("an id that cannot be seen", "a key given twice"),
}
"""What no schema can say."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi(StreamKeys("visual-memory"))


def validator(model: type[ImageEvent | RemovalEvent]) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(event_schema(model, "event"))


def test_the_document_is_one_of_asyncapi(document: dict[str, Any]) -> None:
    specification = jsonschema_rs.validator_for(json.loads(lzma.decompress(SPECIFICATION.read_bytes())))
    specification.validate(document)
    broken = {**document, "operations": {"receiveImage": {"action": "read", "channel": {"$ref": "#/channels/images"}}}}
    assert not specification.is_valid(broken)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in references(document):
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
        assert at


def test_the_streams_have_the_names_under_which_they_are_read(document: dict[str, Any]) -> None:
    addresses = [channel["address"] for channel in document["channels"].values()]
    keys = StreamKeys("visual-memory")
    assert [each.replace("{tenant}", "shop") for each in addresses] == [
        keys.intake("shop"),
        keys.removals("shop"),
        keys.results("shop"),
    ]


def test_the_document_holds_the_events_schemas(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, taken in {
        "ImageEvent": image_event(),
        "RemovalEvent": removal_event(),
        "ObjectNotification": s3_notification(s3_record("cat/1.jpg")),
    }.items():
        within = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        found = jsonschema_rs.validator_for(within)
        found.validate(json.loads(taken))
        assert not found.is_valid({})


TAKEN = {
    "a picture": image_event(data=image_data(**FIELDS)),
    "nulls": image_event(data=image_data(subject=None, vector=None, encoder=None)),
    "a vector": image_event(data=image_data(None, vector=[1, 0.5], encoder="clip")),
    "a dataref": image_event(dataref="s3://bucket/a.jpg", data=image_data(None)),
    "other attributes": image_event(subject="ann", traceparent="00-1", sequence=7, time="2026-01-31T12:00:00Z"),
}


@pytest.mark.parametrize("raw", TAKEN.values(), ids=TAKEN)
def test_what_is_taken_is_valid(raw: bytes) -> None:
    validator(ImageEvent).validate(json.loads(raw))


REFUSABLE = {
    **{name: json.loads(image_event(**changes)) for name, (changes, _) in REFUSED.items() if name not in BEYOND},
    **{name: json.loads(raw) for name, (raw, _) in NO_EVENTS.items() if name not in BEYOND},
}


@pytest.mark.parametrize("sent", REFUSABLE.values(), ids=REFUSABLE)
def test_what_is_refused_is_invalid(sent: object) -> None:
    assert not validator(ImageEvent).is_valid(sent)


@pytest.mark.parametrize(
    "data",
    [
        {"reason": "asked for"},
        {"filter": {}, "reason": "asked for"},
        {"filter": {"subject": "ann"}},
        {"filter": {"subject": "ann"}, "reason": "asked for", "dry_run": True},
    ],
)
def test_a_removal_that_is_refused_is_invalid(data: dict[str, Any]) -> None:
    found = validator(RemovalEvent)
    found.validate(json.loads(removal_event()))
    assert not found.is_valid(json.loads(removal_event(data=data)))
