"""List the review queue: its sources merged by score, a page at a time."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from visual_memory.schemas.errors import InvalidCursor
from visual_memory.schemas.image import Doubt
from visual_memory.schemas.list_cursor import CursorNumber, CursorText, ListCursors
from visual_memory.schemas.page import FIRST_PAGE, Page, PageRequest
from visual_memory.schemas.review import ItemName, ReviewItem, ReviewKind
from visual_memory.services.curation.list_suspects import ListSuspects
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import review_claims
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.review.decision_sources import CloseDecisions, UnknownDecisions
from visual_memory.services.review.doubted_images import DoubtedImages
from visual_memory.services.review.queue_source import Entry, Position, Source
from visual_memory.services.review.review_rows import rows_of
from visual_memory.services.review.suspects import Suspects

EXAMINED = 2_000
"""Entries that a page examines at most, beside those that it shows: it may end early where most were reviewed."""
CURSORS = ListCursors("review", tuple[float, CursorNumber, CursorText])


@dataclass(frozen=True)
class ListReview:
    """Lists the review queue."""

    database: Database
    memory: Memory
    list_suspects: ListSuspects

    def __call__(
        self, tenant: str, asked: PageRequest = FIRST_PAGE, kind: ReviewKind | None = None, *, reviewed: bool = False
    ) -> Page[ReviewItem]:
        """A page of the queue, what is most worth a look first, with who holds each item.

        Args:
            tenant: whose queue.
            asked: which page. One that examined `EXAMINED` entries in vain ends early, with a cursor of the next page.
            kind: only items of this kind.
            reviewed: list items that were looked at too.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        sources = [each for each in self._sources() if kind in (None, each.kind)]
        position = self._position(asked.cursor)
        entries = islice(_merged(sources, tenant, position, reviewed=reviewed), EXAMINED + asked.limit)
        shown, last, ended = list[Entry](), None, True
        for number, entry in enumerate(entries, start=1):
            if reviewed or entry.item.reviewed_at is None:
                if len(shown) == asked.limit:
                    last, ended = shown[-1], False
                    break
                shown.append(entry)
            last, ended = entry, number < EXAMINED + asked.limit
        following = (
            None
            if ended or last is None
            else CURSORS.encode((last.position.score, last.position.source, last.position.key))
        )
        page = Page.of(self._with_claims(tenant, [entry.item for entry in shown]), following)
        if not asked.total:
            return page
        totals = [source.total(tenant, reviewed=reviewed) for source in sources]
        return Page.of(
            page.data,
            following,
            sum(total.entries for total in totals),
            total_is_estimate=any(total.is_estimate for total in totals),
        )

    def named(self, tenant: str, names: Sequence[ItemName]) -> list[ReviewItem]:
        """Those of some items, at most some hundred, that are in the queue, reviewed or not; in its order."""
        items = list[ReviewItem]()
        for source in self._sources():
            if ids := [name.id for name in names if name.kind is source.kind]:
                items += source.named(tenant, ids)
        return sorted(items, key=lambda item: -item.score)

    def _sources(self) -> list[Source]:
        return [
            DoubtedImages(0, self.database, self.memory, Doubt.HELD),
            DoubtedImages(1, self.database, self.memory, Doubt.WARNED),
            UnknownDecisions(2, self.database),
            CloseDecisions(3, self.database),
            Suspects(4, self.database, self.list_suspects),
        ]

    def _position(self, cursor: str | None) -> Position | None:
        decoded = CURSORS.decode(cursor)
        if decoded is not None and not 0 <= decoded[1] < len(self._sources()):
            raise InvalidCursor
        return None if decoded is None else Position(*decoded)

    def _with_claims(self, tenant: str, items: Sequence[ReviewItem]) -> list[ReviewItem]:
        with self.database.read() as connection:
            moment = self.database.moment(connection)
            claims = {
                kind: rows_of(connection, review_claims, tenant, kind, [item.id for item in items if item.kind is kind])
                for kind in ReviewKind
            }
        found = [(item, claims[item.kind].get(item.id)) for item in items]
        return [
            item
            if row is None or row.until <= moment
            else item.model_copy(update={"claimed_by": row.by, "claimed_until": row.until})
            for item, row in found
        ]


def _merged(sources: Iterable[Source], tenant: str, position: Position | None, *, reviewed: bool) -> Iterator[Entry]:
    streams = [source.after(tenant, position, reviewed=reviewed) for source in sources]
    return heapq.merge(*streams, key=lambda entry: (-entry.position.score, entry.position.source))
