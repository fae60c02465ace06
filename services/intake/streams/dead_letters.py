"""Dead letters: what could not be accepted, with the reason and the original; seen, put back or dropped."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from visual_memory.schemas.dead_letter import DeadLetterPage, ShownDeadLetter
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.text_rules import respelled
from visual_memory.services.infrastructure.redis_streams.redis_streams import Streams
from visual_memory.services.infrastructure.redis_streams.stream_entries import DeadLetter
from visual_memory.services.infrastructure.redis_streams.stream_keys import NOTHING, Inbox, order

MOST_BYTES = 4 * 2**20
"""Bytes of originals on a page: one more letter and it would have more, unless it has only that."""
AT_ONCE = 100


@dataclass(frozen=True)
class DeadLetters:
    """The dead letters of all tenants.

    Attributes:
        streams: where they lie.
    """

    streams: Streams

    def page(self, tenant: str, after: str | None, limit: int, *, removals: bool) -> DeadLetterPage:
        """So many dead letters at most, the oldest first.

        Args:
            tenant: whose.
            after: those after this one alone, as the page before named it.
            limit: how many.
            removals: whether those are seen too that asked for removals.

        Raises:
            InvalidRequest: `after` names none.
        """
        seen = (
            letter for letter in self.streams.dead(tenant, _checked(after or NOTHING)) if removals or not _asks(letter)
        )
        letters, size = list[DeadLetter](), 0
        for letter in seen:
            size += len(letter.event)
            if len(letters) == limit or (letters and size > MOST_BYTES):
                return DeadLetterPage(letters=[*map(shown, letters)], cursor=letters[-1].id)
            letters.append(letter)
        return DeadLetterPage(letters=[*map(shown, letters)])

    def all(self, tenant: str) -> Iterator[ShownDeadLetter]:
        """All of a tenant, the oldest first."""
        return map(shown, self.streams.dead(tenant))

    def replay(self, tenant: str, ids: Iterable[str] | None = None) -> dict[str, str]:
        """Put originals back on their streams, each in the transaction in which its dead letter goes.

        It is as old as it was: a removal that it was older than refuses it still.

        Args:
            tenant: whose.
            ids: of the dead letters; None: all that are there now.

        Returns:
            the ids of the new entries, by those of the dead letters; what was not there is left out.

        Raises:
            InvalidRequest: one is no id.
            OutOfSpace: the intake is full.
        """
        replayed = {}
        for letter_id in self._wanted(tenant, ids):
            if entry := self.streams.replay_dead(tenant, letter_id):
                replayed[letter_id] = entry
        return replayed

    def drop(self, tenant: str, ids: Iterable[str] | None = None) -> int:
        """Delete dead letters with their originals; how many there were.

        Args:
            tenant: whose.
            ids: of the dead letters; None: all that are there now.

        Raises:
            InvalidRequest: one is no id.
        """
        left, dropped = iter(self._wanted(tenant, ids)), 0
        while some := [*islice(left, AT_ONCE)]:
            dropped += self.streams.drop_dead(tenant, some)
        return dropped

    def _wanted(self, tenant: str, ids: Iterable[str] | None) -> Sequence[str]:
        """Ids of dead letters; only those that are there now, for what is put back may die again at once."""
        if ids is None:
            return [letter.id for letter in self.streams.dead(tenant)]
        return [*map(_checked, ids)]


def shown(letter: DeadLetter) -> ShownDeadLetter:
    """A dead letter as people see it."""
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
    """Whom dead letters say that their images show, for the audit log; of what cannot be read nobody."""
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
