"""Notifications of object stores that speak S3: which objects were put."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, unquote_plus

from pydantic import BaseModel, Field, ValidationError

from visual_memory.schemas.errors import NotAnEvent, first_faults
from visual_memory.schemas.text_rules import sent_file_name

MAX_RECORDS = 1000


@dataclass(frozen=True)
class StoredObject:
    """An object that was put.

    Attributes:
        url: where it lies: ``s3://BUCKET/KEY``, encoded as URLs are.
        fields: what its key says of it.
    """

    url: str
    fields: Mapping[str, Any]


class _Bucket(BaseModel):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")]


class _Object(BaseModel):
    key: Annotated[str, Field(min_length=1, max_length=4096)]


class _S3(BaseModel):
    bucket: _Bucket
    object: _Object


class _Record(BaseModel):
    eventName: str  # noqa: N815 - S3's own spelling
    responseElements: dict[str, Any] | None = None  # noqa: N815
    s3: _S3


class _Notification(BaseModel):
    Records: Annotated[list[_Record], Field(min_length=1, max_length=MAX_RECORDS)]


def is_notification(content: object) -> bool:
    """Whether it is one, by its form: a list of records, or the try of a bucket whose notifications were set up."""
    return isinstance(content, dict) and ("Records" in content or content.get("Event") == "s3:TestEvent")


def read_notification(content: Mapping[str, Any]) -> tuple[str, Sequence[StoredObject]]:
    """The id of the request that put them, empty where none is named; and the objects that were put.

    Raises:
        NotAnEvent: it is not as S3 writes it, or tells of something else.
    """
    if "Records" not in content:
        return "", ()
    try:
        records = _Notification.model_validate(content).Records
    except ValidationError as error:
        raise NotAnEvent(first_faults(error.errors())) from None
    for record in records:
        if not record.eventName.removeprefix("s3:").startswith("ObjectCreated:"):
            raise NotAnEvent("an object store's notification of something else than ObjectCreated")
    named = (records[0].responseElements or {}).get("x-amz-request-id")
    return named if isinstance(named, str) else "", [_stored(record.s3) for record in records]


def _stored(put: _S3) -> StoredObject:
    """An object whose label is the folder that it lies in, as for a folder of folders that is imported."""
    key = unquote_plus(put.object.key)
    folder, _, name = key.rpartition("/")
    fields: dict[str, Any] = {"labels": [folder]}
    if (file_name := sent_file_name(name)) is not None:
        fields["file_name"] = file_name
    return StoredObject(f"s3://{put.bucket.name}/{quote(key)}", fields)
