"""What lies on the streams: entries, what became of them, and dead letters."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from visual_memory.services.infrastructure.redis_streams.stream_keys import order


class Status(StrEnum):
    """What is said of an entry on the results' stream.

    ``accepted`` and ``held`` (a running removal holds it up) may come first; one of the others ends it, once.
    """

    ACCEPTED = "accepted"
    HELD = "held"
    REMEMBERED = "remembered"
    REJECTED = "rejected"
    REMOVED = "removed"
    DEAD = "dead"


KEPT = frozenset({Status.REJECTED, Status.DEAD})
"""Whose originals are kept among the dead letters."""


@dataclass(frozen=True)
class Entry:
    """An entry of a stream that producers send to.

    Attributes:
        id: Redis gives it; greater than that of every earlier entry.
        event: the bytes of its field ``event``; of an entry without one, what is no event.
        deliveries: how often it was handed out.
        original: of a dead letter that was replayed the id that it had first; a producer may name one too, which only
            makes its entry an older one.
    """

    id: str
    event: bytes
    deliveries: int = 1
    original: str = ""

    @property
    def position(self) -> str:
        """Where it stands among the removals: what lies at or before a removal's position is older than that."""
        try:
            return min(self.id, self.original or self.id, key=order)
        except ValueError:
            return self.id


@dataclass(frozen=True)
class Result:
    """What is said of an entry.

    Attributes:
        entry: its id.
        status: what became of it.
        event_id: the producer's own id of the event, where it could be read.
        image_id: of the image, where there is one.
        reason: a sentence, where it is not accepted.
        removal: the id of the removal that it asked for.
    """

    entry: str
    status: Status
    event_id: str = ""
    image_id: str = ""
    reason: str = ""
    removal: str = ""

    def fields(self) -> dict[str, str]:
        """As they stand on the stream of results; what is empty is left out."""
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
    """That an entry leaves its stream.

    Attributes:
        entry: which.
        result: what is said of it.
        images: id and content hash of each image that was accepted, until it is remembered; an event of an object store
            may name several.
    """

    entry: Entry
    result: Result
    images: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class AcceptedEntry:
    """An entry that was accepted and is not remembered yet.

    Attributes:
        entry: its id.
        event_id: the producer's own id of the event.
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
    """What could not be accepted.

    Attributes:
        id: of the dead letter itself.
        entry: the id that the entry had.
        event: its bytes, as they were sent.
        status: rejected or dead.
        event_id: the producer's own id of the event, where it could be read.
        reason: a sentence.
        deliveries: how often it was handed out.
        original: see `Entry.original`; the entry's own id where it was never replayed.
        inbox: what it was sent to.
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
        """One as it lies on its stream."""
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
    """What lies on a tenant's streams.

    Attributes:
        entries: how many images; all of them are unread, or being worked on, or held up.
        bytes: that they take in Redis, about.
        oldest_seconds: how long the first has been there; 0 where there is none.
        dead: how many dead letters there are.
        removals: how many were asked for and are not recorded yet.
    """

    entries: int
    bytes: int
    oldest_seconds: float
    dead: int
    removals: int
