"""Pages of rows by keyset: a page continues after the key of the last row before it, so each is as fast as the first.

The columns of a key are unique together, and an index has them in their order, after the columns that the query
compares with constants (the tenant).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, func, literal, tuple_

from visual_memory.schemas.list_cursor import ListCursors
from visual_memory.schemas.page import Page, PageRequest

Position = TypeVar("Position", bound=tuple[Any, ...])
Item = TypeVar("Item")


@dataclass(frozen=True)
class LatestFirst(Generic[Position]):
    """A list of rows in descending order of a key.

    Attributes:
        cursors: of the list; a position has a value for each column.
        columns: the key; selected by every query.
    """

    cursors: ListCursors[Position]
    columns: Sequence[ColumnElement[Any]]

    def page(
        self, connection: Connection, query: Select[Any], asked: PageRequest, item: Callable[[Row[Any]], Item]
    ) -> Page[Item]:
        """A page of the rows of a query.

        Args:
            connection: the transaction.
            query: without an order.
            asked: which page.
            item: converts a row.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        rows = connection.execute(self.query(query, asked)).all()
        page, following = rows[: asked.limit], None
        if len(rows) > asked.limit:
            last: Any = tuple(page[-1]._mapping[column] for column in self.columns)  # noqa: SLF001 - public in SQLAlchemy
            following = self.cursors.encode(last)
        total = _count(connection, query) if asked.total else None
        return Page.of(map(item, page), following, total)

    def query(self, query: Select[Any], asked: PageRequest) -> Select[Any]:
        """The query of a page, and of one more row, which says whether there is a next page."""
        position = self.cursors.decode(asked.cursor)
        if position is not None:
            values = [literal(value, column.type) for value, column in zip(position, self.columns, strict=True)]
            query = query.where(tuple_(*self.columns) < tuple_(*values))
        return query.order_by(*(column.desc() for column in self.columns)).limit(asked.limit + 1)


def _count(connection: Connection, query: Select[Any]) -> int:
    counted = query.with_only_columns(func.count(), maintain_column_froms=True)
    return int(connection.execute(counted).scalar_one())
