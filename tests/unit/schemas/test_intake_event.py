"""What producers put on a stream is read by the rules of the API, or refused with a sentence."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.intake_events import image_data, image_event, removal_event, s3_notification, s3_record
from visual_memory.schemas.errors import InvalidRequest, NotAnEvent, RefusedEvent
from visual_memory.schemas.intake_event import MAX_EVENT, MAX_PICTURE
from visual_memory.schemas.parse_intake_event import EventImage, parse_event, parse_removal

FIELDS: dict[str, Any] = {
    "image_id": "one",
    "source": "camera",
    "subject": "Jose\u0301 ",
    "captured_at": "2026-01-31T12:00:00+01:00",
    "metadata": {"size": 3},
}


def only(raw: bytes) -> EventImage:
    [image] = parse_event(raw).images
    return image


def test_a_picture_comes_with_its_fields() -> None:
    read = parse_event(image_event(data=image_data(b"bytes", **FIELDS)))
    [image] = read.images
    assert (read.id, image.picture, image.vector, image.dataref) == ("event-1", b"bytes", None, None)
    assert (image.fields.subject, image.fields.image_id) == ("José", "one"), "in the one spelling of all text"
    assert image.fields.model_fields_set == {"labels", *FIELDS}, "what is left out stays as it is"


def test_a_vector_comes_with_its_encoder() -> None:
    image = only(image_event(data=image_data(None, vector=[1, 0.5], encoder="clip")))
    assert (image.vector, image.encoder, image.picture) == ([1.0, 0.5], "clip", None)


def test_a_picture_lies_elsewhere() -> None:
    image = only(image_event(dataref="s3://bucket/a.jpg", data=image_data(None)))
    assert (image.dataref, image.picture, image.vector) == ("s3://bucket/a.jpg", None, None)


def test_attributes_that_nobody_here_knows_are_ignored() -> None:
    sent = image_event(subject="ann", dataschema="urn:x", traceparent="00-1", sequence=7, time="2026-01-31T12:00:00Z")
    assert only(sent).fields.subject is None


def test_null_clears_and_is_no_picture() -> None:
    sent = image_data(b"bytes", subject=None, vector=None, encoder=None)
    assert "subject" in only(image_event(data=sent, dataref=None)).fields.model_fields_set
    assert only(json.dumps({**json.loads(image_event(data=sent)), "dataref": None}).encode()).picture == b"bytes"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no picture": ({"data": image_data(None)}, "event: send one of the three"),
    "a picture and a dataref": ({"dataref": "s3://a/b"}, "event: send one of the three"),
    "a picture and a vector": ({"data": image_data(vector=[1], encoder="clip")}, "event: send one of the three"),
    "a vector of nobody": ({"data": image_data(None, vector=[1])}, "data: send vector and encoder"),
    "an encoder without a vector": ({"data": image_data(encoder="clip")}, "data: send vector and encoder"),
    "no label": ({"data": image_data(labels=[])}, "data.labels: "),
    "an unknown field": ({"data": image_data(label="cat")}, "data.label: "),
    "an unseen character": ({"data": image_data(subject="a\u200bb")}, "data.subject: must not contain the invisible"),
    "no base64": ({"data": {"labels": ["cat"], "picture": "a b"}}, "data.picture: not base64"),
    "a picture of bytes as numbers": ({"data": {"labels": ["cat"], "picture": [1]}}, "data.picture: a picture is"),
    "a large picture": ({"data": image_data(bytes(MAX_PICTURE + 3))}, "data.picture: it has 262,147 bytes"),
    "an empty vector": ({"data": image_data(None, vector=[], encoder="clip")}, "data.vector: "),
    "a vector of text": ({"data": image_data(None, vector=["a"] * 9, encoder="clip")}, "data.vector.0: "),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_breaks_a_rule_is_refused_by_the_name_of_its_event(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedEvent) as caught:
        parse_event(image_event(**changes))
    assert caught.value.message.startswith(message), caught.value.message
    assert caught.value.event_id == "event-1"


NO_EVENTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not JSON"),
    "no JSON": (b"\x80", "not JSON"),
    "another encoding": ('{"é": 1}'.encode("latin-1"), "not JSON"),
    "null": (b"null", "event: "),
    "a list": (b"[]", "event: "),
    "nested too deeply": (b"[" * 60_000, "not JSON"),
    "a number of 10,000 digits": (b"7" * 10_000, ""),
    "no data": (image_event(data=None), "data: "),
    "data is text": (image_event(data="{}"), "data: "),
    "data in base64": (image_event(data_base64="e30="), "event: names of CloudEvents attributes have only a-z"),
    "a misspelled attribute": (image_event(dataRef="s3://a/b"), "event: names of CloudEvents attributes have only a-z"),
    "no id": (image_event(id=None), "id: "),
    "an empty id": (image_event(id=""), "id: "),
    "an id that cannot be seen": (image_event(id="a\u200bb"), "id: "),
    "no source": (image_event(source=None), "source: "),
    "another version": (image_event(specversion="0.3"), "specversion: "),
    "another type": (image_event(type="com.example.image"), "type: "),
    "a removal": (removal_event(), "type: "),
    "another content type": (image_event(datacontenttype="text/xml"), "datacontenttype: "),
    "a dataref that is none": (image_event(dataref=7), "dataref: "),
    "a fault of its own beside one of the image": (image_event(id=None, data=image_data(labels=[])), "id: "),
    "a key given twice": (image_event().replace(b'"labels"', b'"labels": ["dog"], "labels"'), "data.labels: this key"),
    "too large": (image_event(data=image_data(bytes(MAX_EVENT))), "it has 568,"),
    "too many values": (image_event(data=image_data(sizes=[[]] * 40_000)), "it has"),
}


@pytest.mark.parametrize(("raw", "message"), NO_EVENTS.values(), ids=NO_EVENTS)
def test_what_is_no_event_is_told_from_what_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(NotAnEvent) as caught:
        parse_event(raw)
    assert caught.value.message.startswith(message), caught.value.message


def test_the_largest_picture_fits_with_all_that_may_be_said_of_it() -> None:
    metadata = {f"name{number}": "x" * 1000 for number in range(32)}
    data = image_data(bytes(MAX_PICTURE), metadata=metadata, labels=["é" * 190 + f"{n}" for n in range(32)])
    assert len(only(image_event(data=data)).picture or b"") == MAX_PICTURE


def test_what_was_sent_is_not_repeated() -> None:
    with pytest.raises(RefusedEvent) as caught:
        parse_event(image_event(data=image_data(subject={"a secret": 1}, labels=[7])))
    assert "secret" not in caught.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
ATTRIBUTES = ["specversion", "id", "source", "type", "datacontenttype", "time", "dataref", "data", "Records", "Event"]


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    for read in (parse_event, parse_removal):
        with pytest.raises((NotAnEvent, RefusedEvent)):
            read(raw)


@given(st.sampled_from(ATTRIBUTES) | st.text(max_size=4), JSON)
def test_no_value_of_an_attribute_raises_anything_else(name: str, value: object) -> None:
    for read, sent in ((parse_event, image_event()), (parse_removal, removal_event())):
        try:
            read(json.dumps({**json.loads(sent), name: value}).encode())
        except InvalidRequest as error:
            assert isinstance(error, NotAnEvent | RefusedEvent)  # noqa: PT017 - it need not raise


# --- notifications of object stores


def test_an_object_that_was_put_lies_where_its_key_says() -> None:
    read = parse_event(s3_notification(s3_record("animal/cat/my+own%2Bcat+%C3%A9.jpg")))
    [image] = read.images
    assert image.dataref == "s3://pictures/animal/cat/my%20own%2Bcat%20%C3%A9.jpg"
    assert (image.fields.labels, image.fields.file_name) == (["animal/cat"], "my own+cat é.jpg")
    assert image.fields.model_fields_set == {"labels", "file_name"}
    assert read.id == "C3D13FE58DE4C810"


def test_a_notification_of_another_store_and_of_many_objects() -> None:
    records = [s3_record(f"dog/{number}", "s3:ObjectCreated:CompleteMultipartUpload") for number in range(3)]
    sent = {"EventName": "s3:ObjectCreated:Put", "Key": "pictures/dog/0", "Records": records}
    images = parse_event(json.dumps(sent).encode()).images
    assert [image.dataref for image in images] == [f"s3://pictures/dog/{number}" for number in range(3)]
    assert images[0].fields.file_name is None, "a name without an ending is none, as of files that are sent"


def test_the_try_of_a_bucket_is_an_event_of_nothing() -> None:
    sent = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "pictures", "RequestId": "5582815E1AEA5ADF"}
    assert parse_event(json.dumps(sent).encode()).images == ()


@pytest.mark.parametrize("key", ["cat.jpg", "/cat.jpg", "a//cat.jpg", "a%00b/cat.jpg", "x/" * 101 + "cat.jpg"])
def test_a_key_that_names_no_label_is_refused(key: str) -> None:
    with pytest.raises(RefusedEvent, match="the object's key: labels") as caught:
        parse_event(s3_notification(s3_record("dog/1.jpg"), s3_record(key)))
    assert caught.value.event_id == "C3D13FE58DE4C810"


@pytest.mark.parametrize(
    "sent",
    [
        {"Records": []},
        {"Records": [{}]},
        {"Records": "cat"},
        {"Records": [s3_record("cat/1.jpg", "ObjectRemoved:Delete")]},
        {"Records": [s3_record("cat/1.jpg"), s3_record("cat/1.jpg", "ObjectTagging:Put")]},
        {"Records": [s3_record("cat/1.jpg", bucket="a/b")]},
        {"Records": [s3_record("")]},
    ],
)
def test_other_notifications_are_no_events(sent: dict[str, Any]) -> None:
    with pytest.raises(NotAnEvent):
        parse_event(json.dumps(sent).encode())


# --- removals


def test_a_removal_is_what_the_api_takes() -> None:
    name, asked = parse_removal(removal_event())
    assert (name, asked.reason, asked.filter.named()) == ("event-1", "asked for", {"ann"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"filter": {"subject": "ann"}, "reason": "asked for", "dry_run": True}, "data.dry_run"),
        ({"reason": "asked for"}, "data: give a filter"),
        ({"filter": {"subject": "ann"}, "reason": "by Ann"}, "data: reason"),
        ({"filter": {"subject": "ann"}}, "data.reason"),
    ],
)
def test_a_removal_that_breaks_a_rule_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedEvent) as caught:
        parse_removal(removal_event(data=data))
    assert caught.value.message.startswith(message), caught.value.message


def test_a_filter_that_says_a_field_twice_is_no_removal() -> None:
    sent = removal_event().replace(b'"subject": "ann"', b'"subject": "ann", "subject": {"not": "ann"}')
    with pytest.raises(NotAnEvent, match="this key is given twice"):
        parse_removal(sent)


def test_an_image_is_no_removal() -> None:
    with pytest.raises(NotAnEvent, match="type"):
        parse_removal(image_event())


def test_base64_is_of_the_picture_s_own_bytes() -> None:
    assert (
        base64.b64decode(image_data(b"\xff\x00")["picture"]) == only(image_event(data=image_data(b"\xff\x00"))).picture
    )
