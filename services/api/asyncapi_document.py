"""Describe the streams: JSON Schema of the events, and an AsyncAPI 3 document."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from visual_memory.schemas.intake_event import MAX_EVENT, ImageEvent, RemovalEvent
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Status
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys

ASYNCAPI = "/asyncapi.json"
IMAGE_EVENT = "/schemas/image-event.json"
REMOVAL_EVENT = "/schemas/removal-event.json"

_TENANT = "{tenant}"
_S3 = {
    "type": "object",
    "required": ["Records"],
    "properties": {
        "Records": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["eventName", "s3"],
                "properties": {
                    "eventName": {"type": "string", "pattern": "^(s3:)?ObjectCreated:"},
                    "s3": {
                        "type": "object",
                        "required": ["bucket", "object"],
                        "properties": {
                            "bucket": {"type": "object", "required": ["name"]},
                            "object": {"type": "object", "required": ["key"]},
                        },
                    },
                },
            },
        }
    },
}
_RESULT = {
    "type": "object",
    "required": ["entry", "status"],
    "properties": {
        "entry": {"type": "string", "description": "the entry's id, as returned by XADD"},
        "id": {"type": "string", "description": "the event's own id"},
        "status": {"type": "string", "enum": [*Status]},
        "image_id": {"type": "string"},
        "removal": {"type": "string", "description": "the id of the requested removal"},
        "reason": {"type": "string", "description": "why it was rejected, or is dead"},
    },
}


def event_schema(model: type[BaseModel], name: str) -> dict[str, Any]:
    """Return the JSON Schema of an event.

    Args:
        model: of the event.
        name: of its schema.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:visual-memory:{name}",
        **model.model_json_schema(),
    }


def asyncapi(keys: StreamKeys) -> dict[str, Any]:
    """Return the AsyncAPI document of a tenant's streams.

    Args:
        keys: the names of the streams.
    """
    _, found = models_json_schema(
        [(ImageEvent, "validation"), (RemovalEvent, "validation")], ref_template="#/components/schemas/{model}"
    )
    images, removals, results = keys.intake(_TENANT), keys.removals(_TENANT), keys.results(_TENANT)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Visual Memory: intake",
            "version": "1",
            "description": "Send images and removals without HTTP: as entries of Redis streams, with one XADD each. An"
            f" entry has one field, `event`, with the JSON of an event in UTF-8, at most {MAX_EVENT:,} bytes of it.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "intake": {
                "host": "{host}",
                "protocol": "redis",
                "description": "The Redis of the intake; `visual-memory intake show` prints its address.",
                "variables": {"host": {"default": "127.0.0.1:6379"}},
                "security": [{"$ref": "#/components/securitySchemes/redis"}],
            }
        },
        "channels": {
            "images": _channel(images, "Images to be accepted.", "imageEvent", "objectNotification"),
            "removals": _channel(removals, "Removal requests.", "removalEvent"),
            "results": _channel(results, "Results of entries; the oldest are deleted.", "result"),
        },
        "operations": {
            "receiveImage": _operation("receive", "images", "Accept an image: remembered, rejected, removed or dead."),
            "receiveRemoval": _operation("receive", "removals", "Remove images that meet a filter, or everything."),
            "sendResult": _operation("send", "results", "Report the result of an entry."),
        },
        "components": {
            "messages": {
                "imageEvent": _message("ImageEvent", "An image, as CloudEvents 1.0."),
                "removalEvent": _message("RemovalEvent", "A removal, as CloudEvents 1.0."),
                "objectNotification": _message("ObjectNotification", "S3's notification of objects that were put."),
                "result": {**_message("Result", "The result of an entry; each property is a separate field.")},
            },
            "schemas": {**found["$defs"], "ObjectNotification": _S3, "Result": _RESULT},
            "securitySchemes": {
                "redis": {
                    "type": "userPassword",
                    "description": "A user of Redis for one tenant, made by `visual-memory intake user add`.",
                }
            },
        },
    }


def _channel(address: str, description: str, *messages: str) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "servers": [{"$ref": "#/servers/intake"}],
        "parameters": {"tenant": {"description": "the tenant: 1 to 63 of a-z 0-9 _ -"}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(schema: str, summary: str) -> dict[str, Any]:
    return {
        "name": schema,
        "summary": summary,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{schema}"},
    }
