"""Events of intake streams: CloudEvents 1.0 in JSON, with one image or one removal each.

An image event has the same fields as a request to the API, under the same rules. It contains the picture in base64, or
its URL in the attribute ``dataref``, or a vector instead. S3 notifications are accepted too: see
`schemas.s3_notification`.
"""

import re
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.moments import Moment
from visual_memory.schemas.picture_base64 import Picture
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.schemas.text_rules import check_seen

IMAGE: Final = "visual-memory.image.v1"
REMOVAL: Final = "visual-memory.removal.v1"

MAX_PICTURE = 256 * 2**10
"""The most bytes of a picture in an event; larger ones need a ``dataref``, or are sent to the API."""
MAX_EVENT = 416 * 2**10
"""The most bytes of an event: the largest picture in base64, and its fields."""
_DATA_FIELDS = ("picture", "vector", "encoder")
_ATTRIBUTE = re.compile("[a-z0-9]+")
_NAMES: JsonDict = {"propertyNames": {"pattern": f"^{_ATTRIBUTE.pattern}$"}}

Envelope = TypeVar("Envelope", bound="_Envelope")


def _small(picture: bytes) -> bytes:
    if len(picture) > MAX_PICTURE:
        raise ValueError(
            f"it has {len(picture):,} bytes, more than the {MAX_PICTURE:,} of an event: send its URL as dataref"
        )
    return picture


AttributeText = Annotated[
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
    """The attributes of CloudEvents that are read; others are ignored.

    Attributes:
        type: the kind of event.
    """

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra={**_NAMES})

    specversion: Literal["1.0"] = Field(description="of CloudEvents", examples=["1.0"])
    id: AttributeText = Field(description="the producer's id of the event; results contain it", examples=["a-1"])
    source: AttributeText = Field(description="the producer, as a URI reference", examples=["/camera"])
    datacontenttype: Annotated[str, Field(pattern=r"^application/json\s*(;.*)?$")] | None = Field(
        default=None, description="of `data`", examples=["application/json"]
    )
    time: Moment | None = Field(
        default=None, description="when it happened; not used", examples=["2026-01-31T12:00:00Z"]
    )

    @model_validator(mode="after")
    def _check_attribute_names(self) -> Self:
        """Refuse invalid names, as a misspelled attribute would be ignored."""
        for name in self.model_extra or ():
            if not _ATTRIBUTE.fullmatch(name):
                raise PydanticCustomError(
                    "attribute",
                    "names of CloudEvents attributes have only a-z and 0-9; data is sent as an object",
                )
        return self


class ImageData(ImageFields):
    """An image: the fields of the API, with its picture or its vector where the event contains them."""

    picture: SmallPicture | None = Field(
        default=None,
        description="the bytes of its file in base64, at most 256 KiB of them",
        examples=["/9j/4AAQSkZJRg=="],
    )
    vector: Vector | None = Field(default=None, description="of any length", examples=[[0.1, 0.2]])
    encoder: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="the name of the encoder that made the vector", examples=["efficientnet-lite0"]
    )

    @model_validator(mode="after")
    def _check_encoder(self) -> Self:
        if (self.vector is None) != (self.encoder is None):
            raise ValueError("send vector and encoder, the name of the encoder that made it, or neither")
        return self


def _with(**wanted: str) -> JsonDict:
    """The schema of events with one of picture, vector and dataref, and none of the others."""
    absent: JsonDict = {"type": "null"}
    data: JsonDict = {name: {"type": wanted[name]} if name in wanted else absent for name in _DATA_FIELDS}
    required: list[Any] = [name for name in _DATA_FIELDS if name in wanted]
    properties: JsonDict = {"data": {"required": required, "properties": data}}
    if "dataref" not in wanted:
        return {"properties": properties | {"dataref": absent}}
    return {"required": ["dataref"], "properties": properties | {"dataref": {"type": "string"}}}


class ImageEvent(_Envelope):
    """An image to accept, as CloudEvents 1.0 in JSON."""

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

    type: Literal["visual-memory.image.v1"] = Field(
        description="the type of the event", examples=["visual-memory.image.v1"]
    )
    dataref: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        default=None,
        description="the URL of the picture, with a prefix that the service allows for this tenant",
        examples=["s3://bucket/shop/cat.jpg"],
    )
    data: ImageData = Field(description="the image's fields")

    @model_validator(mode="after")
    def _check_one_picture(self) -> Self:
        if sum(each is not None for each in (self.dataref, self.data.picture, self.data.vector)) != 1:
            raise ValueError("send one of the three: dataref, data.picture or data.vector")
        return self


class RemovalEvent(_Envelope):
    """A request for a removal, as CloudEvents 1.0 in JSON."""

    type: Literal["visual-memory.removal.v1"] = Field(
        description="the type of the event", examples=["visual-memory.removal.v1"]
    )
    data: RemovalRequest = Field(description="the removal")
