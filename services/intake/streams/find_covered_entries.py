"""Find and delete the entries, dead letters and results on the streams that a removal covers."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import TypeVar

import numpy as np

from visual_memory.schemas.errors import InvalidVector, NotAnEvent, RefusedEvent, Unavailable
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.schemas.parse_intake_event import EventImage, parse_event
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import (
    DeadLetter,
    Ended,
    Entry,
    Result,
    Status,
)
from visual_memory.services.infrastructure.redis_streams.stream_keys import Inbox
from visual_memory.services.infrastructure.redis_streams.stream_users import StreamUsers
from visual_memory.services.memory.points.point_payload import AMENDABLE
from visual_memory.services.memory.points.vector_digests import vector_digests
from visual_memory.services.removal.intake_contract import NO_POSITION, CoveredIds, QueuedEntry, QueuedImage
from visual_memory.services.removal.refused_intake_entries import is_at_or_before
from visual_memory.services.vector_engines.engine_contract import Vectors

Each = TypeVar("Each")
REASON = "a later removal covers it"
PAGE = 100
DEAD = "dead:"
"""The prefix of ids of dead letters, where entries and dead letters are mixed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamIntakeQueue:
    """Implements `services.removal.intake_contract.IntakeQueue`.

    Attributes:
        users: the users of the streams; None: the operator manages them.
    """

    streams: Streams
    users: StreamUsers | None = None

    def last_position(self, tenant: str) -> str:
        """The last id of a tenant's stream."""
        return self.streams.last_id(tenant)

    def up_to(self, tenant: str, position: str) -> Iterator[Sequence[QueuedEntry]]:
        """Dead letters, then entries, so that a letter that is replayed meanwhile is found on the stream."""
        letters = (queued_letter(tenant, letter) for letter in self.streams.dead(tenant))
        yield from _pages(each for each in letters if _is_before(each, position))
        for page in self.streams.entries_up_to(tenant, position):
            yield [queued_entry(tenant, entry) for entry in page]

    def remove(self, tenant: str, entries: Sequence[QueuedEntry]) -> None:
        """Delete entries and dead letters; a result is published for entries only, as a dead letter has had one."""
        waiting = [each for each in entries if not each.key.startswith(DEAD)]
        self.streams.end(tenant, [_removed(each) for each in waiting])
        letters = (each.key for each in entries if each.key.startswith(DEAD))
        self.streams.drop_dead(tenant, [key.removeprefix(DEAD) for key in letters])

    def remove_results(self, tenant: str, position: str, covered: CoveredIds) -> None:
        """Publish the removal of accepted entries that are covered, and delete all results that name their images."""
        for page in self.streams.accepted(tenant):
            older = [each for each in page if is_at_or_before(each.entry, position)]
            gone = covered({image_id for each in older for image_id in each.image_ids})
            resolved = [each for each in older if not gone.isdisjoint(each.image_ids)]
            self.streams.resolve_accepted(
                tenant, [Result(each.entry, Status.REMOVED, each.event_id, reason=REASON) for each in resolved]
            )
        for some in _pages(self.streams.results(tenant)):
            named = {key: fields["image_id"] for key, fields in some if _is_of_older(fields, position)}
            gone = covered({*named.values()})
            self.streams.drop_results(tenant, [key for key, image_id in named.items() if image_id in gone])

    def revoke_producers(self, tenant: str) -> None:
        """Delete the tenant's users, if the server lets this service do so."""
        users = self.users
        if users is None:
            return
        try:
            for user in users.all():
                if user.tenant == tenant:
                    users.remove(user.name)
        except Unavailable as error:
            log.warning("the operator must revoke who may send to the streams of %s: %s", tenant, error)

    def delete_tenant(self, tenant: str) -> None:
        """Delete everything of a tenant."""
        self.streams.drop_tenant(tenant)

    def erase_removed(self) -> str:
        """Erase deleted entries from the server's files."""
        return self.streams.rewrite_log()


def queued_entry(tenant: str, entry: Entry) -> QueuedEntry:
    """Convert an entry for a removal."""
    return _queued(tenant, entry.id, entry.position, entry.event)


def queued_letter(tenant: str, letter: DeadLetter) -> QueuedEntry:
    """Convert a dead letter for a removal.

    A failed removal request is no image, so it is searched as text. Its stream has its own ids, which are not ordered
    relative to those of images; so it counts as older than every removal that finds it.
    """
    key, original = f"{DEAD}{letter.id}", letter.original or letter.entry
    if letter.inbox == Inbox.REMOVALS:
        return QueuedEntry(key, NO_POSITION, text=all_text(letter.event), name=f"{Inbox.REMOVALS}:{original}")
    return _queued(tenant, key, original, letter.event)


def all_text(raw: bytes) -> str:
    """The text of bytes that are no event; with JSON escapes decoded in addition."""
    text = raw.decode(errors="replace")
    try:
        return f"{text}\n{json.dumps(json.loads(text), ensure_ascii=False)}"
    except (ValueError, RecursionError):
        return text


def _queued(tenant: str, key: str, position: str, raw: bytes) -> QueuedEntry:
    try:
        event = parse_event(raw)
    except (NotAnEvent, RefusedEvent) as error:
        event_id = error.event_id if isinstance(error, RefusedEvent) else ""
        return QueuedEntry(key, position, text=all_text(raw), event_id=event_id)
    return QueuedEntry(key, position, [_queued_image(tenant, each) for each in event.images], event_id=event.id)


def _queued_image(tenant: str, sent: EventImage) -> QueuedImage:
    content, digests = "", list[str]()
    if sent.picture is not None:
        content = sha256(sent.picture).hexdigest()
    elif sent.vector is not None:
        vector = np.asarray([sent.vector], dtype=np.float32)
        content, digests = sha256(vector[0].astype("<f4").tobytes()).hexdigest(), _digests(vector)
    image = StoredImage(
        **{name: getattr(sent.fields, name) for name in AMENDABLE},
        image_id=sent.fields.image_id or content,
        tenant=tenant,
        state=State.WAITING,
        accepted_at=now(),
        content_hash=content,
        picture="",
        encoder=sent.encoder,
        vector_digests=digests,
    )
    known = {"image_id", "content_hash"} if content else set[str]()
    return QueuedImage(image, frozenset(sent.fields.model_fields_set | known))


def _digests(vector: Vectors) -> list[str]:
    try:
        [digests] = vector_digests(vector)
    except InvalidVector:  # rejected when it is read
        return []
    return digests


def _removed(entry: QueuedEntry) -> Ended:
    """The end of an entry; its image is not named, because it is removed."""
    return Ended(Entry(entry.key, b""), Result(entry.key, Status.REMOVED, entry.event_id, reason=REASON))


def _is_before(entry: QueuedEntry, position: str) -> bool:
    try:
        return is_at_or_before(entry.position, position)
    except ValueError:  # of a dead letter that was written by hand
        return True


def _is_of_older(fields: Mapping[str, str], position: str) -> bool:
    """Whether a result names an image, and its entry is at or before a position."""
    if "image_id" not in fields:
        return False
    try:
        return is_at_or_before(fields.get("entry", ""), position)
    except ValueError:
        return True


def _pages(given: Iterable[Each]) -> Iterator[list[Each]]:
    rest = iter(given)
    while page := [*islice(rest, PAGE)]:
        yield page
