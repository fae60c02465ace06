"""Events as producers send them, made without any code of the service."""

import base64
import json
from typing import Any


def image_event(**changes: Any) -> bytes:
    """An image event with other attributes; those that are None are left out."""
    event = {
        "specversion": "1.0",
        "id": "event-1",
        "source": "/tests",
        "type": "visual-memory.image.v1",
        "datacontenttype": "application/json",
        "data": image_data(),
        **changes,
    }
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


def image_data(picture: bytes | None = b"a picture", **fields: Any) -> dict[str, Any]:
    """What an event says of an image; without its picture where that is None."""
    said = {"labels": ["cat"], **fields}
    return said if picture is None else {**said, "picture": base64.b64encode(picture).decode()}


def removal_event(**changes: Any) -> bytes:
    """A removal event with other attributes."""
    data = {"filter": {"subject": "ann"}, "reason": "asked for"}
    return image_event(**{"type": "visual-memory.removal.v1", "data": data, **changes})


def s3_record(key: str, name: str = "ObjectCreated:Put", bucket: str = "pictures") -> dict[str, Any]:
    """A record of a notification, as S3 writes it."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-01-31T12:00:00.000Z",
        "eventName": name,
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6"},
        },
    }


def s3_notification(*records: dict[str, Any]) -> bytes:
    """A notification of an object store."""
    return json.dumps({"Records": records}).encode()
