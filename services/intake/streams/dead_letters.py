"""Dead letters, the entries that could not be accepted: list, replay and drop them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

from pydantic import Field

from visual_memory.schemas.dead_letter import ShownDeadLetter
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.list_cursor import ListCursors
from visual_memory.schemas.page import Page, PageRequest
from visual_memory.schemas.text_rules import respelled
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import DeadLetter
from visual_memory.services.infrastructure.redis_streams.stream_keys import Inbox, order

StreamNumber = Annotated[int, Field(ge=0, lt=2**64)]
CURSORS = ListCursors("intake/dead", tuple[StreamNumber, StreamNumber])
MAX_BYTES = 4 * 2**20
"""Largest size of the originals on a page in bytes; a page has at least one letter."""
AT_ONCE = 100


@dataclass(frozen=True)
class DeadLetters:
    """The dead letters of all tenants.

    Attributes:
        streams: the streams of all tenants.
    """

    streams: Streams

    def page(self, tenant: str, asked: PageRequest, *, removals: bool) -> Page[ShownDeadLetter]:
        """A page of dead letters, the latest first; its total counts removal requests, whoever asks.

        Args:
            tenant: the tenant.
            asked: which page.
            removals: whether failed removal requests are included.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        before = CURSORS.decode(asked.cursor)
        listed = self.streams.latest_dead(tenant, None if before is None else f"{before[0]}-{before[1]}")
        total = self.streams.backlog(tenant).dead if asked.total else None
        letters, size, following = list[DeadLetter](), 0, None
        for letter in (each for each in listed if removals or not _asks(each)):
            size += len(letter.event)
            if len(letters) == asked.limit or (letters and size > MAX_BYTES):
                following = CURSORS.encode(order(letters[-1].id))
                break
            letters.append(letter)
        return Page.of(map(shown, letters), following, total, total_is_estimate=not removals)

    def all(self, tenant: str) -> Iterator[ShownDeadLetter]:
        """All dead letters of a tenant, the oldest first."""
        return map(shown, self.streams.dead(tenant))

    def replay(self, tenant: str, ids: Iterable[str] | None = None) -> dict[str, str]:
        """Add originals to their streams again; each dead letter is deleted in the same transaction.

        A replayed entry keeps its age: later removals that cover it still refuse it.

        Args:
            tenant: the tenant.
            ids: of the dead letters; None: all that exist now.

        Returns:
            the ids of the new entries, by those of the dead letters; missing ones are left out.

        Raises:
            InvalidRequest: an id is not valid.
            OutOfSpace: the intake is full.
        """
        replayed = {}
        for letter_id in self._wanted(tenant, ids):
            if entry := self.streams.replay_dead(tenant, letter_id):
                replayed[letter_id] = entry
        return replayed

    def drop(self, tenant: str, ids: Iterable[str] | None = None) -> int:
        """Delete dead letters with their originals; returns how many existed.

        Args:
            tenant: the tenant.
            ids: of the dead letters; None: all that exist now.

        Raises:
            InvalidRequest: an id is not valid.
        """
        left, dropped = iter(self._wanted(tenant, ids)), 0
        while some := [*islice(left, AT_ONCE)]:
            dropped += self.streams.drop_dead(tenant, some)
        return dropped

    def _wanted(self, tenant: str, ids: Iterable[str] | None) -> Sequence[str]:
        """Ids of dead letters; only of those that exist now, because a replayed entry may fail again at once."""
        if ids is None:
            return [letter.id for letter in self.streams.dead(tenant)]
        return [*map(_checked, ids)]


def shown(letter: DeadLetter) -> ShownDeadLetter:
    """Convert a dead letter for display."""
    return ShownDeadLetter(
        id=letter.id,
        at=datetime.fromtimestamp(order(letter.id)[0] / 1000, UTC),
        entry=letter.entry,
        event_id=letter.event_id or None,
        status=letter.status,
        reason=letter.reason,
        deliveries=letter.deliveries,
        inbox=letter.inbox,
        bytes=len(letter.event),
        event=letter.event.decode(errors="replace"),
    )


def subjects_of(letters: Iterable[ShownDeadLetter]) -> set[str]:
    """The subjects of dead letters, for the audit log; those of unreadable events are unknown."""
    return {respelled(name) for letter in letters if (name := _subject(letter.event))}


def _subject(event: str) -> str | None:
    try:
        read: Any = json.loads(event)
    except (ValueError, RecursionError):
        return None
    data = read.get("data") if isinstance(read, dict) else None
    subject = data.get("subject") if isinstance(data, dict) else None
    return subject if isinstance(subject, str) and subject else None


def _asks(letter: DeadLetter) -> bool:
    return letter.inbox == Inbox.REMOVALS


def _checked(letter_id: str) -> str:
    try:
        moment, number = order(letter_id)
    except ValueError:
        raise InvalidRequest(f"{letter_id!r} is no id of a dead letter: they are such as 1700000000000-0") from None
    if max(moment, number) >= 2**64:
        raise InvalidRequest(f"{letter_id!r} is no id of a dead letter")
    return f"{moment}-{number}"
