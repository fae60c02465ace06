"""What producers put on a tenant's streams: CloudEvents 1.0 in JSON, one image or one removal each.

An event says the same of an image as a request to the API does, and is held to the same rules. The picture is in it, in
base64; or where it lies, as the attribute ``dataref``; or there is a vector in its place. Notifications of object
stores are understood too, see `schemas.s3_notification`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails, PydanticCustomError

from visual_memory.schemas.errors import InvalidRequest, NotAnEvent, RefusedEvent, first_faults
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.picture_base64 import Picture
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.schemas.s3_notification import StoredObject, is_notification, read_notification
from visual_memory.schemas.strict_json import parse_json, read_json
from visual_memory.schemas.text_rules import Moment, check_seen

IMAGE: Final = "visual-memory.image.v1"
REMOVAL: Final = "visual-memory.removal.v1"

MAX_PICTURE = 256 * 2**10
"""Bytes of a picture within an event; a larger one is put where a ``dataref`` leads, or sent to the API."""
MAX_EVENT = 416 * 2**10
"""Bytes of an event: the largest picture in base64, and what is said of it."""
MAX_VALUES = 2**16 + 2**10
"""More values than a vector and the fields of an image have, and more than a filter has."""
_WITHIN = ("picture", "vector", "encoder")
_ATTRIBUTE = re.compile("[a-z0-9]+")
_NAMES: JsonDict = {"propertyNames": {"pattern": f"^{_ATTRIBUTE.pattern}$"}}

Envelope = TypeVar("Envelope", bound="_Envelope")


def _small(picture: bytes) -> bytes:
    if len(picture) > MAX_PICTURE:
        raise ValueError(
            f"it has {len(picture):,} bytes, and an event holds at most {MAX_PICTURE:,}: put it where a dataref leads"
        )
    return picture


Said = Annotated[
    str,
    Field(min_length=1, max_length=1024, json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}),
    AfterValidator(check_seen),
]
SmallPicture = Annotated[
    Picture,
    AfterValidator(_small),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "maxLength": -(-MAX_PICTURE // 3) * 4}),
]
Vector = Annotated[list[FiniteFloat], Field(min_length=1, max_length=2**16, fail_fast=True)]


class _Envelope(BaseModel):
    """The attributes of CloudEvents that are read; others are taken and ignored.

    Attributes:
        specversion: of CloudEvents.
        id: the producer's own name for the event: results name it.
        source: who sends, as a URI reference.
        type: what it is.
        datacontenttype: of ``data``.
        time: when it happened; nothing is decided by it.
    """

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra={**_NAMES})

    specversion: Literal["1.0"]
    id: Said
    source: Said
    datacontenttype: Annotated[str, Field(pattern=r"^application/json\s*(;.*)?$")] | None = None
    time: Moment | None = None

    @model_validator(mode="after")
    def _names_attributes(self) -> Self:
        """An attribute that is misspelled would be ignored, and the picture of another be taken."""
        for name in self.model_extra or ():
            if not _ATTRIBUTE.fullmatch(name):
                raise PydanticCustomError(
                    "attribute", "an attribute of CloudEvents is named by a-z and 0-9 alone; data is sent as an object"
                )
        return self


class ImageData(ImageFields):
    """An image: the fields that the API takes, with its picture or its vector where they are in the event.

    Attributes:
        picture: the bytes of its file in base64, at most 256 KiB of them.
        vector: a ready-made vector, of any length.
        encoder: the name of the encoder that made the vector.
    """

    picture: SmallPicture | None = None
    vector: Vector | None = None
    encoder: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _names_an_encoder(self) -> Self:
        if (self.vector is None) != (self.encoder is None):
            raise ValueError("send vector and encoder, the name of whoever made it, or neither")
        return self


def _with(**wanted: str) -> JsonDict:
    """A schema of events that have one of the three ways in which a picture comes, and none of the others."""
    absent: JsonDict = {"type": "null"}
    data: JsonDict = {name: {"type": wanted[name]} if name in wanted else absent for name in _WITHIN}
    required: list[Any] = [name for name in _WITHIN if name in wanted]
    properties: JsonDict = {"data": {"required": required, "properties": data}}
    if "dataref" not in wanted:
        return {"properties": properties | {"dataref": absent}}
    return {"required": ["dataref"], "properties": properties | {"dataref": {"type": "string"}}}


class ImageEvent(_Envelope):
    """An image that is to be accepted, as CloudEvents 1.0 in JSON.

    Attributes:
        dataref: where the picture lies: a URL that begins as the service allows for this tenant.
        data: what is said of it.
    """

    model_config = ConfigDict(
        json_schema_extra={
            **_NAMES,
            "oneOf": [
                _with(picture="string"),
                _with(vector="array", encoder="string"),
                _with(dataref="string"),
            ],
        }
    )

    type: Literal["visual-memory.image.v1"]
    dataref: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    data: ImageData

    @model_validator(mode="after")
    def _has_one_picture(self) -> Self:
        if sum(each is not None for each in (self.dataref, self.data.picture, self.data.vector)) != 1:
            raise ValueError("send one of the three: dataref, data.picture or data.vector")
        return self


class RemovalData(RemovalRequest):
    """What to forget and why, as the API takes it, but for a dry run."""

    dry_run: Annotated[bool, Field(json_schema_extra={"const": False})] = False

    @model_validator(mode="after")
    def _is_meant(self) -> Self:
        if self.dry_run:
            raise ValueError("dry_run: nobody reads the answer to an event: ask the API what would go")
        return self


class RemovalEvent(_Envelope):
    """A removal that is asked for, as CloudEvents 1.0 in JSON."""

    type: Literal["visual-memory.removal.v1"]
    data: RemovalData


@dataclass(frozen=True)
class EventImage:
    """One image of an event; it has a picture, a vector with its encoder, or a dataref.

    Attributes:
        fields: what is said of it.
        dataref: where its picture lies.
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
class ReadEvent:
    """An event that can be acted upon.

    Attributes:
        id: as its producer named it.
        images: most often one; none where an object store only tries whether its notifications arrive.
    """

    id: str
    images: tuple[EventImage, ...]


def read_event(raw: bytes) -> ReadEvent:
    """The images of an event.

    Raises:
        NotAnEvent: it is none of the forms that are understood.
        RefusedEvent: it is an event, and what it says of its image breaks a rule.
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
    return ReadEvent(event.id, (EventImage(fields, event.dataref, data.picture, data.vector, data.encoder),))


def read_removal(raw: bytes) -> tuple[str, RemovalRequest]:
    """The id of a removal event, and what it asks for.

    Raises:
        NotAnEvent: it is no such event.
        RefusedEvent: it is, and what it asks for breaks a rule.
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
        raise NotAnEvent(f"it has {len(raw):,} bytes, and an event at most {MAX_EVENT:,}")
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise NotAnEvent(f"it holds more than {MAX_VALUES:,} values")


def _content(raw: bytes) -> Any:
    try:
        return read_json(raw)
    except (ValueError, RecursionError):
        raise NotAnEvent("not JSON in UTF-8") from None
    except InvalidRequest as error:
        raise NotAnEvent(error.message) from None


def _notified(content: Mapping[str, Any]) -> ReadEvent:
    request, objects = read_notification(content)
    return ReadEvent(request, tuple(_of_object(each, request) for each in objects))


def _of_object(stored: StoredObject, request: str) -> EventImage:
    try:
        fields = ImageFields.model_validate(stored.fields)
    except ValidationError as error:
        raise RefusedEvent(f"the object's key: {first_faults(error.errors())}", request) from None
    return EventImage(fields, dataref=stored.url)


def _refusal(error: ValidationError, content: Any) -> NotAnEvent | RefusedEvent:
    """Whether an event breaks a rule of its own, or of what it says."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    said = first_faults(faults, "event")
    if all(map(_is_of_content, faults)):
        return RefusedEvent(said, content["id"])
    return NotAnEvent(said)


def _is_of_content(fault: ErrorDetails) -> bool:
    place = fault["loc"]
    return (place[:1] == ("data",) and len(place) > 1) or (place in {(), ("data",)} and fault["type"] == "value_error")
