"""Convert entries, results and dead letters to and from the fields that Redis stores."""

import json
from collections.abc import Mapping

from visual_memory.schemas.intake_event import MAX_EVENT
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import (
    KEPT,
    AcceptedEntry,
    Ended,
    Entry,
    Status,
)
from visual_memory.services.infrastructure.redis_streams.stream_keys import Inbox

FIELD = b"event"
"""The field of an entry that holds its event."""
MAX_VALUE = 500
"""Longest stored value of a result's field, in characters."""


def to_entry(entry_id: str, fields: Mapping[bytes, bytes], deliveries: int = 1) -> Entry:
    """Read an entry from its fields."""
    original = fields.get(b"original", b"").decode(errors="replace")
    return Entry(entry_id, fields[FIELD] if FIELD in fields else _not_an_event(fields), deliveries, original)


def _not_an_event(fields: Mapping[bytes, bytes]) -> bytes:
    """The fields of an entry without the field ``event``, for its dead letter: as a list, which is no event.

    Truncated, because together they may be longer than a dead letter may be.
    """
    text = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
    return json.dumps([text], ensure_ascii=False).encode(errors="replace")[:MAX_EVENT]


def flat(fields: Mapping[str, str]) -> str:
    """Encode fields for the scripts."""
    return json.dumps([each[:MAX_VALUE] for field in fields.items() for each in field])


def accepted_note(ended: Ended) -> str:
    """The stored note of an accepted entry; empty for others."""
    if ended.result.status is not Status.ACCEPTED or ended.result.removal:
        return ""
    return json.dumps({"id": ended.result.event_id, "images": ended.images})


def to_accepted_entry(entry_id: str, row: bytes) -> AcceptedEntry:
    """Read the stored note of an accepted entry."""
    held = json.loads(row)
    images = ((str(image_id), str(content)) for image_id, content in held["images"])
    return AcceptedEntry(entry_id, held["id"], tuple(images))


def dead_letter_fields(ended: Ended, inbox: Inbox) -> tuple[str, bytes]:
    """The dead letter of an entry, and its original; empty for one that is not kept."""
    if ended.result.status not in KEPT:
        return "", b""
    entry = ended.entry
    fields = ended.result.fields() | {
        "deliveries": str(entry.deliveries),
        "original": entry.original or entry.id,
        "inbox": str(inbox),
    }
    return flat(fields), entry.event
