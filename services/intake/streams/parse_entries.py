"""Parse entries: their images and kinds of content, grouped into runs that can be accepted in one write."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

import numpy as np

from visual_memory.schemas.errors import NotAnEvent, RefusedEvent
from visual_memory.schemas.parse_intake_event import EventImage, ParsedEvent, parse_event
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Ended, Entry, Result, Status
from visual_memory.services.vector_engines.engine_contract import Vectors

REFERENCE = "reference"
PICTURE = "picture"
NOTHING = "nothing"
MAX_ENTRIES = 256
"""Small entries that are accepted in one write: a write costs a few syncs of the disk, regardless of its size."""
MAX_REFERENCES = 8
MAX_BYTES = 16 * 2**20
"""About how many bytes the entries of one write may have."""


@dataclass(frozen=True)
class ReadableEntry:
    """An entry with its parsed event."""

    entry: Entry
    event: ParsedEvent

    @cached_property
    def ids(self) -> frozenset[str]:
        """The ids of its images; that of a picture by URL without an id is not known yet."""
        named = (each.fields.image_id or content_of(each) for each in self.event.images)
        return frozenset(each for each in named if each is not None)

    @property
    def content(self) -> str:
        """The kind of its content: entries of one kind can be accepted in one write."""
        if not self.event.images:
            return NOTHING
        first = self.event.images[0]
        if first.vector is not None:
            return f"{len(first.vector)} numbers of {first.encoder}"
        return PICTURE if first.picture is not None else REFERENCE

    def ended(self, status: Status, **fields: str) -> Ended:
        """The end of the entry with a status."""
        return Ended(self.entry, Result(self.entry.id, status, self.event.id, **fields))


def read(entry: Entry) -> ReadableEntry | Ended:
    """Parse the event of an entry; returns its end if the event is invalid."""
    try:
        return ReadableEntry(entry, parse_event(entry.event))
    except NotAnEvent as error:
        return Ended(entry, Result(entry.id, Status.DEAD, reason=error.message))
    except RefusedEvent as error:
        return Ended(entry, Result(entry.id, Status.REJECTED, error.event_id, reason=error.message))


def content_of(image: EventImage) -> str | None:
    """The content hash of an image that is in its event, which is also its id if it has none; None for a URL."""
    if image.picture is not None:
        return sha256(image.picture).hexdigest()
    if image.vector is not None:
        return sha256(vectors([image.vector]).tobytes()).hexdigest()
    return None


def vectors(some: Sequence[Sequence[float]]) -> Vectors:
    """Convert vectors of one length to float32; numbers that are too large become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(some, np.dtype("<f4"))


def runs(entries: Sequence[ReadableEntry]) -> Iterator[list[ReadableEntry]]:
    """Group entries into runs of one kind of content for one write each; entries of one image stay in order.

    The image ids of an entry with a URL may be unknown, so no other entry is moved across it.
    """
    opened: dict[str, _Run] = {}
    for entry in entries:
        others = [run for content, run in opened.items() if content != entry.content]
        if others and (
            REFERENCE in {entry.content, *opened} or any(not entry.ids.isdisjoint(other.ids) for other in others)
        ):
            yield from (run.entries for run in opened.values())
            opened = {}
        max_entries = MAX_REFERENCES if entry.content == REFERENCE else MAX_ENTRIES
        run = opened.get(entry.content)
        if run and (len(run.entries) >= max_entries or run.size + len(entry.entry.event) > MAX_BYTES):
            yield opened.pop(entry.content).entries
        opened.setdefault(entry.content, _Run()).add(entry)
    yield from (run.entries for run in opened.values())


@dataclass
class _Run:
    entries: list[ReadableEntry] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    size: int = 0

    def add(self, entry: ReadableEntry) -> None:
        self.entries.append(entry)
        self.ids |= entry.ids
        self.size += len(entry.entry.event)
