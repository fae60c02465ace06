"""Read S3 event notifications: which objects were created."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, unquote_plus

from pydantic import BaseModel, Field, ValidationError

from visual_memory.schemas.errors import NotAnEvent
from visual_memory.schemas.text_rules import sent_file_name
from visual_memory.schemas.validation_faults import first_faults

MAX_RECORDS = 1000


@dataclass(frozen=True)
class StoredObject:
    """A created object.

    Attributes:
        url: its URL, ``s3://BUCKET/KEY``, percent-encoded.
        fields: image fields from its key.
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
    """Whether content is a notification: a list of records, or the test event of a bucket's new configuration."""
    return isinstance(content, dict) and ("Records" in content or content.get("Event") == "s3:TestEvent")


def parse_notification(content: Mapping[str, Any]) -> tuple[str, Sequence[StoredObject]]:
    """The id of the request that created the objects, maybe empty; and the objects.

    Raises:
        NotAnEvent: the notification is invalid, or about something else.
    """
    if "Records" not in content:
        return "", ()
    try:
        records = _Notification.model_validate(content).Records
    except ValidationError as error:
        raise NotAnEvent(first_faults(error, "notification", content)) from None
    for record in records:
        if not record.eventName.removeprefix("s3:").startswith("ObjectCreated:"):
            raise NotAnEvent("the notification of an object store is not about ObjectCreated")
    named = (records[0].responseElements or {}).get("x-amz-request-id")
    return named if isinstance(named, str) else "", [_stored(record.s3) for record in records]


def _stored(created: _S3) -> StoredObject:
    """An object with its folder as the label, as in an import of folders."""
    key = unquote_plus(created.object.key)
    folder, _, name = key.rpartition("/")
    fields: dict[str, Any] = {"labels": [folder]}
    if (file_name := sent_file_name(name)) is not None:
        fields["file_name"] = file_name
    return StoredObject(f"s3://{created.bucket.name}/{quote(key)}", fields)
