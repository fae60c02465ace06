"""The content of the streams: entries, results, accepted entries, dead letters and the backlog."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from visual_memory.services.infrastructure.redis_streams.stream_keys import order


class Status(StrEnum):
    """The status of an entry on the stream of results.

    ``accepted`` and ``held`` (a running removal delays it) may come first; exactly one of the others is final.
    """

    ACCEPTED = "accepted"
    HELD = "held"
    REMEMBERED = "remembered"
    REJECTED = "rejected"
    REMOVED = "removed"
    DEAD = "dead"


KEPT = frozenset({Status.REJECTED, Status.DEAD})
"""The final statuses whose originals are stored as dead letters."""


@dataclass(frozen=True)
class Entry:
    """An entry of a stream that producers send to.

    Attributes:
        id: assigned by Redis; greater than that of every earlier entry.
        event: the bytes of its field ``event``; for an entry without one, bytes that are no event.
        deliveries: how often it was delivered to a consumer.
        original: the first id of a replayed dead letter; a producer may set one too, which only makes its entry older.
    """

    id: str
    event: bytes
    deliveries: int = 1
    original: str = ""

    @property
    def position(self) -> str:
        """Its order relative to removals: an entry at or before the position of a removal is older than the removal."""
        try:
            return min(self.id, self.original or self.id, key=order)
        except ValueError:
            return self.id


@dataclass(frozen=True)
class Result:
    """A result of an entry.

    Attributes:
        entry: the id of the entry.
        status: its status.
        event_id: the producer's id of the event, if it could be read.
        image_id: the id of the image, if there is exactly one.
        reason: a sentence, if the entry was not accepted.
        removal: the id of the removal that it requested.
    """

    entry: str
    status: Status
    event_id: str = ""
    image_id: str = ""
    reason: str = ""
    removal: str = ""

    def fields(self) -> dict[str, str]:
        """The fields on the stream of results; empty ones are left out."""
        named = {
            "entry": self.entry,
            "id": self.event_id,
            "status": str(self.status),
            "image_id": self.image_id,
            "removal": self.removal,
            "reason": self.reason,
        }
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class Ended:
    """An entry that is to be deleted from its stream.

    Attributes:
        entry: the entry.
        result: its result.
        images: id and content hash of each accepted image that is not remembered yet; an event of an object store may
            name several.
    """

    entry: Entry
    result: Result
    images: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class AcceptedEntry:
    """An accepted entry that is not remembered yet.

    Attributes:
        entry: its id.
        event_id: the producer's id of the event.
        images: id and content hash of each of its images.
    """

    entry: str
    event_id: str
    images: tuple[tuple[str, str], ...]

    @property
    def image_ids(self) -> list[str]:
        """The ids of its images."""
        return [image_id for image_id, _ in self.images]


@dataclass(frozen=True)
class DeadLetter:
    """An entry that could not be accepted.

    Attributes:
        id: of the dead letter.
        entry: the id of the entry.
        event: its bytes, as they were sent.
        status: rejected or dead.
        event_id: the producer's id of the event, if it could be read.
        reason: a sentence.
        deliveries: how often it was delivered to a consumer.
        original: see `Entry.original`; the id of the entry if it was never replayed.
        inbox: the kind of stream that it was sent to.
    """

    id: str
    entry: str
    event: bytes
    status: Status
    event_id: str
    reason: str
    deliveries: int
    original: str
    inbox: str

    @classmethod
    def read(cls, letter_id: str, fields: Mapping[bytes, bytes]) -> "DeadLetter":
        """Read a dead letter from its fields."""
        text = {name.decode(): value.decode(errors="replace") for name, value in fields.items() if name != b"event"}
        return cls(
            id=letter_id,
            entry=text.get("entry", ""),
            event=fields.get(b"event", b""),
            status=Status(text["status"]) if text.get("status") in set(Status) else Status.DEAD,
            event_id=text.get("id", ""),
            reason=text.get("reason", ""),
            deliveries=int(text["deliveries"]) if text.get("deliveries", "").isdigit() else 0,
            original=text.get("original", ""),
            inbox=text.get("inbox", ""),
        )


@dataclass(frozen=True)
class Backlog:
    """The size of a tenant's streams.

    Attributes:
        entries: the number of image entries that are unread, being processed, or held.
        bytes: about how many bytes they take in Redis.
        oldest_seconds: the age of the oldest one; 0 if there is none.
        dead: the number of dead letters.
        removals: the number of removal requests that are not recorded yet.
    """

    entries: int
    bytes: int
    oldest_seconds: float
    dead: int
    removals: int
