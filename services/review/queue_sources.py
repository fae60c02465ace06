"""The sources of the review queue; each yields its entries in the order of the queue, from any position on.

The queue is sorted by score, the highest first. Entries with equal scores come by source, and within one source in its
own order. Every source reads in batches as its entries are asked for: the decisions by an index of their table, the
images by an index of the collection, and the suspects, at most 3,000, from the judgement in memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, and_, func, select, tuple_

from visual_memory.schemas.errors import InvalidCursor
from visual_memory.schemas.image import Doubt, StoredImage
from visual_memory.schemas.image_search import LATEST_FIRST
from visual_memory.schemas.judgement import Suspect, Suspicion
from visual_memory.schemas.review import (
    CLOSE_MARGIN,
    HELD_SCORE,
    UNKNOWN_SCORE,
    WARNED_SCORE,
    ReviewItem,
    ReviewKind,
)
from visual_memory.services.curation.list_suspects import ListSuspects
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.tables import decisions, review_marks
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import UNMARKED, doubted
from visual_memory.services.review.review_rows import rows_of, seen_as, suspect_id

BATCH = 100
SCORES = {Doubt.HELD: HELD_SCORE, Doubt.WARNED: WARNED_SCORE}
TINY = 1e-9
"""More than 1 less a score differs from the margin that the score is 1 less of."""


class Position(NamedTuple):
    """The place of an entry in the queue: the score, the number of its source, and its place in that."""

    score: float
    source: int
    key: str


class Entry(NamedTuple):
    """An entry of the queue, with its place."""

    position: Position
    item: ReviewItem


class Total(NamedTuple):
    """A number of entries, and whether it is an estimate."""

    entries: int
    is_estimate: bool = False


class Source(ABC):
    """A source of the queue.

    Args:
        number: among the sources of the queue.
    """

    kind: ReviewKind

    def __init__(self, number: int) -> None:
        self.number = number

    @abstractmethod
    def after(self, tenant: str, position: Position | None, *, reviewed: bool) -> Iterator[Entry]:
        """The entries after a position, in the order of the queue.

        Args:
            tenant: whose queue.
            position: None: from the first entry on.
            reviewed: whether the reviewed ones are wanted; without it, a source may leave them out.

        Raises:
            InvalidCursor: the position is none of the source.
        """

    @abstractmethod
    def total(self, tenant: str, *, reviewed: bool) -> Total:
        """The number of entries, without the reviewed ones unless they are wanted."""

    @abstractmethod
    def named(self, tenant: str, ids: Sequence[str]) -> Iterator[ReviewItem]:
        """Those items of some ids, at most some hundred, that the source has, reviewed or not."""

    def key_after(self, score: float, position: Position | None) -> tuple[bool, str | None]:
        """Where entries that all have one score continue.

        Returns:
            whether any come after the position, and the key of the last one before them; None: all come after it.
        """
        if position is None:
            return True, None
        if (position.score, position.source) == (score, self.number):
            return True, position.key
        return (-score, self.number) > (-position.score, position.source), None


class DecisionSource(Source):
    """Stored decisions."""

    kind = ReviewKind.DECISION

    def __init__(self, number: int, database: Database) -> None:
        super().__init__(number)
        self._database = database

    @abstractmethod
    def where(self, tenant: str) -> ColumnElement[bool]:
        """Which decisions the source has."""

    def total(self, tenant: str, *, reviewed: bool) -> Total:
        """The number of decisions."""
        query = self.query(tenant, reviewed=reviewed).with_only_columns(func.count(), maintain_column_froms=True)
        with self._database.read() as connection:
            return Total(connection.execute(query).scalar_one())

    def named(self, tenant: str, ids: Sequence[str]) -> Iterator[ReviewItem]:
        """The decisions of some ids."""
        for batch in batches(ids, BATCH):
            rows = self.rows(self.query(tenant, reviewed=True).where(decisions.c.id.in_(batch)))
            yield from (self.entry(row).item for row in rows)

    def query(self, tenant: str, *, reviewed: bool) -> Select[Any]:
        """The decisions with their marks, without an order."""
        mark = and_(
            review_marks.c.tenant == decisions.c.tenant,
            review_marks.c.kind == self.kind.value,
            review_marks.c.record == decisions.c.id,
        )
        columns = (decisions.c.id, decisions.c.label, decisions.c.margin, decisions.c.voters)
        marks = (review_marks.c.at, review_marks.c.by)
        query = select(*columns, *marks).join_from(decisions, review_marks, mark, isouter=True)
        left = () if reviewed else (review_marks.c.at.is_(None),)
        return query.where(self.where(tenant), *left)

    def rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        """The rows of a query, at most `BATCH`."""
        with self._database.read() as connection:
            return connection.execute(query.limit(BATCH)).all()

    @abstractmethod
    def entry(self, row: Row[Any]) -> Entry:
        """The entry of a row."""

    def made(self, row: Row[Any], score: float, key: str, reason: str) -> Entry:
        """An entry with a score, a place among those of the source, and a reason."""
        item = ReviewItem(
            kind=self.kind,
            id=row.id,
            decision_id=row.id,
            reason=reason,
            score=score,
            suggestion=row.label,
            reviewed_at=row.at,
            reviewed_by=row.by,
        )
        return Entry(Position(score, self.number, key), item)


class UnknownDecisions(DecisionSource):
    """Stored decisions without a label, the latest first."""

    def where(self, tenant: str) -> ColumnElement[bool]:
        """Those without a label."""
        return (decisions.c.tenant == tenant) & decisions.c.label.is_(None)

    def after(self, tenant: str, position: Position | None, *, reviewed: bool) -> Iterator[Entry]:
        """The decisions after a position."""
        any_left, last = self.key_after(UNKNOWN_SCORE, position)
        query = self.query(tenant, reviewed=reviewed).order_by(decisions.c.id.desc())
        while any_left:
            rows = self.rows(query if last is None else query.where(decisions.c.id < last))
            yield from map(self.entry, rows)
            any_left, last = len(rows) == BATCH, rows[-1].id if rows else None

    def entry(self, row: Row[Any]) -> Entry:
        """The entry of a row."""
        return self.made(row, UNKNOWN_SCORE, row.id, f"the vote of {row.voters} neighbours gave no label")


class CloseDecisions(DecisionSource):
    """Stored decisions with a label and a small margin, the smallest first."""

    def where(self, tenant: str) -> ColumnElement[bool]:
        """Those whose margin is below `CLOSE_MARGIN`."""
        labelled = (decisions.c.tenant == tenant) & decisions.c.label.is_not(None)
        return labelled & (decisions.c.margin < CLOSE_MARGIN)

    def after(self, tenant: str, position: Position | None, *, reviewed: bool) -> Iterator[Entry]:
        """The decisions after a position."""
        query = self.query(tenant, reviewed=reviewed).order_by(decisions.c.margin, decisions.c.id)
        margin, last = self._start(position)
        while True:
            rows = self.rows(query.where(tuple_(decisions.c.margin, decisions.c.id) > tuple_(margin, last)))
            for entry in map(self.entry, rows):
                if position is None or position.source == self.number or _is_after(entry.position, position):
                    yield entry
            if len(rows) < BATCH:
                return
            margin, last = rows[-1].margin, rows[-1].id

    def entry(self, row: Row[Any]) -> Entry:
        """The entry of a row."""
        reason = f"{row.label} leads by only {row.margin:.1%} of the vote"
        return self.made(row, 1 - row.margin, f"{row.margin!r} {row.id}", reason)

    def _start(self, position: Position | None) -> tuple[float, str]:
        """The margin and the id after which the entries begin; they may begin a little later."""
        if position is None:
            return -1.0, ""
        if position.source != self.number:
            return 1 - position.score - TINY, ""
        margin, _, last = position.key.partition(" ")
        try:
            return float(margin), last
        except ValueError:
            raise InvalidCursor from None


class DoubtedImages(Source):
    """Images that the label check holds or warns of, the latest first."""

    kind = ReviewKind.IMAGE

    def __init__(self, number: int, database: Database, memory: Memory, doubt: Doubt) -> None:
        super().__init__(number)
        self._database = database
        self._memory = memory
        self._where = [doubted(doubt), UNMARKED]
        self._score = SCORES[doubt]

    def after(self, tenant: str, position: Position | None, *, reviewed: bool) -> Iterator[Entry]:  # noqa: ARG002
        """The images after a position, reviewed or not."""
        any_left, last = self.key_after(self._score, position)
        cursor = last
        while any_left:
            images, cursor = self._memory.in_order.page(tenant, self._where, LATEST_FIRST, BATCH, cursor)
            keys = [self._memory.in_order.cursor_at(LATEST_FIRST, image) for image in images]
            marks = self._marks(tenant, images)
            for image, key in zip(images, keys, strict=True):
                if key != last:  # a cursor is where a page begins
                    yield Entry(Position(self._score, self.number, key), self._item(image, marks.get(image.image_id)))
            any_left = cursor is not None

    def total(self, tenant: str, *, reviewed: bool) -> Total:
        """The number of images; where there are more than `BATCH` marks, the marked ones are counted too."""
        total = self._memory.in_order.total(tenant, self._where)
        if reviewed:
            return Total(*total)
        of_kind = (review_marks.c.tenant == tenant) & (review_marks.c.kind == self.kind.value)
        with self._database.read() as connection:
            ids = connection.execute(select(review_marks.c.record).where(of_kind).limit(BATCH + 1)).scalars().all()
        if len(ids) > BATCH:
            return Total(total.images, is_estimate=True)
        images = [image for image in self._memory.images.get(tenant, ids).values() if self._has(image)]
        return Total(total.images - len(self._marks(tenant, images)), total.is_estimate)

    def named(self, tenant: str, ids: Sequence[str]) -> Iterator[ReviewItem]:
        """The images of some ids."""
        images = [image for image in self._memory.images.get(tenant, ids).values() if self._has(image)]
        marks = self._marks(tenant, images)
        yield from (self._item(image, marks.get(image.image_id)) for image in images)

    def _has(self, image: StoredImage) -> bool:
        return image.removal is None and image.doubt is not None and SCORES.get(image.doubt) == self._score

    def _marks(self, tenant: str, images: Sequence[StoredImage]) -> dict[str, Row[Any]]:
        """The marks that count, by image id."""
        with self._database.read() as connection:
            marks = rows_of(connection, review_marks, tenant, self.kind, (image.image_id for image in images))
        seen = {image.image_id: seen_as(image, self.kind) for image in images}
        return {image_id: row for image_id, row in marks.items() if row.seen == seen[image_id]}

    def _item(self, image: StoredImage, mark: Row[Any] | None) -> ReviewItem:
        return ReviewItem(
            kind=self.kind,
            id=image.image_id,
            image_id=image.image_id,
            reason=image.reason or "the label check doubts its label",
            score=self._score,
            reviewed_at=mark and mark.at,
            reviewed_by=mark and mark.by,
        )


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
        left = [each for each in placed if position is None or _is_after(each[0], position)]
        yield from self._entries(tenant, [suspect for _, suspect in sorted(left, key=lambda each: _order(each[0]))])

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


def _order(position: Position) -> tuple[float, int, str]:
    return -position.score, position.source, position.key


def _is_after(one: Position, other: Position) -> bool:
    """Whether a position comes after another one; of one source, where the keys sort as the entries do."""
    return _order(one) > _order(other)
