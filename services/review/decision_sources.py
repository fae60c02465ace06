"""The stored decisions of the review queue, read by indexes of their table."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, select, tuple_

from visual_memory.schemas.errors import InvalidCursor
from visual_memory.schemas.review import CLOSE_MARGIN, UNKNOWN_SCORE, ReviewItem, ReviewKind
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.tables import decisions, review_marks
from visual_memory.services.review.queue_source import BATCH, Entry, Position, Source, Total, is_after

TINY = 1e-9
"""More than 1 less a score differs from the margin that the score is 1 less of."""


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
                if position is None or position.source == self.number or is_after(entry.position, position):
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
