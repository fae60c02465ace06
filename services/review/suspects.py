"""The suspects of the review queue, at most 3,000, from the current judgement."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row

from visual_memory.schemas.judgement import Suspect, Suspicion
from visual_memory.schemas.review import ReviewItem, ReviewKind
from visual_memory.services.curation.list_suspects import ListSuspects
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import review_marks
from visual_memory.services.review.queue_source import BATCH, Entry, Position, Source, Total, is_after, order
from visual_memory.services.review.review_rows import rows_of, seen_as, suspect_id


class Suspects(Source):
    """The suspects of the current judgement."""

    kind = ReviewKind.SUSPECT

    def __init__(self, number: int, database: Database, list_suspects: ListSuspects) -> None:
        super().__init__(number)
        self._database = database
        self._list_suspects = list_suspects

    def after(self, tenant: str, position: Position | None, *, reviewed: bool) -> Iterator[Entry]:  # noqa: ARG002
        """The suspects after a position, reviewed or not."""
        placed = [(self._position(each), each) for each in self._judged(tenant)]
        left = [each for each in placed if position is None or is_after(each[0], position)]
        yield from self._entries(tenant, [suspect for _, suspect in sorted(left, key=lambda each: order(each[0]))])

    def total(self, tenant: str, *, reviewed: bool) -> Total:
        """The number of suspects."""
        entries = self.after(tenant, None, reviewed=reviewed)
        return Total(sum(1 for entry in entries if reviewed or entry.item.reviewed_at is None))

    def named(self, tenant: str, ids: Sequence[str]) -> Iterator[ReviewItem]:
        """The suspects of some ids."""
        wanted = [each for each in self._judged(tenant) if _id_of(each) in ids]
        yield from (entry.item for entry in self._entries(tenant, wanted))

    def _judged(self, tenant: str) -> Sequence[Suspect]:
        judgement = self._list_suspects.judgements.used(tenant)
        return [] if judgement is None else judgement.suspects

    def _entries(self, tenant: str, suspects: Sequence[Suspect]) -> Iterator[Entry]:
        """The entries of those that are still suspects."""
        for start in range(0, len(suspects), BATCH):
            found = [*self._list_suspects.still_suspect(tenant, suspects[start : start + BATCH])]
            with self._database.read() as connection:
                marks = rows_of(connection, review_marks, tenant, self.kind, [_id_of(each) for each, _ in found])
            for suspect, image in found:
                mark = marks.get(_id_of(suspect))
                counts = mark is not None and mark.seen == seen_as(image, self.kind)
                yield Entry(self._position(suspect), _suspect_item(suspect, mark if counts else None))

    def _position(self, suspect: Suspect) -> Position:
        return Position(_score(suspect), self.number, _id_of(suspect))


def _score(suspect: Suspect) -> float:
    score = min(max(suspect.score, 0.0), 1.0)
    return score if suspect.suspicion is Suspicion.LABEL else score / 2


def _id_of(suspect: Suspect) -> str:
    return suspect_id(suspect.suspicion, suspect.image_id)


def _suspect_item(suspect: Suspect, mark: Row[Any] | None) -> ReviewItem:
    return ReviewItem(
        kind=ReviewKind.SUSPECT,
        id=_id_of(suspect),
        image_id=suspect.image_id,
        reason=suspect.reason,
        score=_score(suspect),
        suggestion=suspect.suggestion,
        reviewed_at=mark and mark.at,
        reviewed_by=mark and mark.by,
    )
