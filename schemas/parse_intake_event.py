"""Parse events and S3 notifications from intake streams into images and removal requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import (
    ValidationError,
)
from pydantic_core import ErrorDetails

from visual_memory.schemas.errors import InvalidRequest, NotAnEvent, RefusedEvent
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.intake_event import MAX_EVENT, ImageData, ImageEvent, RemovalEvent
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.schemas.s3_notification import StoredObject, is_notification, parse_notification
from visual_memory.schemas.strict_json import parse_json, read_json
from visual_memory.schemas.validation_faults import first_faults

MAX_VALUES = 2**16 + 2**10
"""The most values of an event: more than a vector and the fields of an image have, or a filter."""


@dataclass(frozen=True)
class EventImage:
    """One image of an event; it has a picture, a vector with its encoder, or a dataref.

    Attributes:
        fields: of the image.
        dataref: the URL of its picture.
        picture: the bytes of its file.
        vector: of any length.
        encoder: the name of the encoder that made the vector.
    """

    fields: ImageFields
    dataref: str | None = None
    picture: bytes | None = None
    vector: Sequence[float] | None = None
    encoder: str | None = None


@dataclass(frozen=True)
class ParsedEvent:
    """A valid event.

    Attributes:
        id: the producer's id of the event.
        images: usually one; none in the test event of an object store.
    """

    id: str
    images: tuple[EventImage, ...]


def parse_event(raw: bytes) -> ParsedEvent:
    """Parse an image event or an S3 notification.

    Raises:
        NotAnEvent: the bytes have none of the known forms.
        RefusedEvent: the event has the right form, and its content breaks a rule.
    """
    _check_size(raw)
    try:
        event = parse_json(ImageEvent, raw)
    except InvalidRequest as error:
        raise NotAnEvent(error.message) from None
    except ValidationError as error:
        content = _content(raw)
        if is_notification(content):
            return _notified(content)
        raise _refusal(error, content) from None
    data = event.data
    fields = ImageFields.model_construct(data.model_fields_set & ImageFields.model_fields.keys(), **_fields(data))
    return ParsedEvent(event.id, (EventImage(fields, event.dataref, data.picture, data.vector, data.encoder),))


def parse_removal(raw: bytes) -> tuple[str, RemovalRequest]:
    """Parse a removal event into its id and its request.

    Raises:
        NotAnEvent: the bytes are no removal event.
        RefusedEvent: the event has the right form, and its content breaks a rule.
    """
    _check_size(raw)
    try:
        event = parse_json(RemovalEvent, raw)
    except InvalidRequest as error:
        raise NotAnEvent(error.message) from None
    except ValidationError as error:
        raise _refusal(error, _content(raw)) from None
    return event.id, event.data


def _fields(data: ImageData) -> Mapping[str, Any]:
    return {name: getattr(data, name) for name in ImageFields.model_fields}


def _check_size(raw: bytes) -> None:
    if len(raw) > MAX_EVENT:
        raise NotAnEvent(f"it has {len(raw):,} bytes, more than the {MAX_EVENT:,} of an event")
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise NotAnEvent(f"it has more than {MAX_VALUES:,} values")


def _content(raw: bytes) -> Any:
    try:
        return read_json(raw)
    except (ValueError, RecursionError):
        raise NotAnEvent("not JSON in UTF-8") from None
    except InvalidRequest as error:
        raise NotAnEvent(error.message) from None


def _notified(content: Mapping[str, Any]) -> ParsedEvent:
    request, objects = parse_notification(content)
    return ParsedEvent(request, tuple(_of_object(each, request) for each in objects))


def _of_object(stored: StoredObject, request: str) -> EventImage:
    try:
        fields = ImageFields.model_validate(stored.fields)
    except ValidationError as error:
        raise RefusedEvent(f"the object's key: {first_faults(error, sent=stored.fields)}", request) from None
    return EventImage(fields, dataref=stored.url)


def _refusal(error: ValidationError, content: Any) -> NotAnEvent | RefusedEvent:
    """The error for an invalid event: of its form, or of its content."""
    message = first_faults(error, "event", content)
    if all(map(_is_of_content, error.errors(include_url=False, include_context=False, include_input=False))):
        return RefusedEvent(message, content["id"])
    return NotAnEvent(message)


def _is_of_content(fault: ErrorDetails) -> bool:
    path = fault["loc"]
    return (path[:1] == ("data",) and len(path) > 1) or (path in {(), ("data",)} and fault["type"] == "value_error")
