"""Mark items as looked at, and take marks back."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.review import ItemName, ReviewKind, ReviewMark
from visual_memory.services.infrastructure.records.database import Database, Within, nothing_else
from visual_memory.services.infrastructure.records.tables import review_claims, review_marks
from visual_memory.services.review.existing_items import ExistingItem, ExistingItems


@dataclass(frozen=True)
class MarkReviewed:
    """Marks items of every tenant's review queue; any image or decision can be marked, in the queue or not."""

    database: Database
    existing: ExistingItems

    def mark(self, tenant: str, name: ItemName, by: str, within: Within = nothing_else) -> ReviewMark:
        """Mark an item as looked at now, in place of an earlier mark, and end the claim that holds it.

        Args:
            tenant: whose item.
            name: the item.
            by: who looked at it, as the API knows them.
            within: called in the transaction, with the item's id.

        Raises:
            NotFound: its image or decision does not exist.
        """
        with self.database.write() as connection:
            item = self._find(connection, tenant, name)
            moment = self.database.moment(connection)
            values = {"decision": item.decision, "seen": item.seen, "by": by, "at": moment}
            row = self.database.insert(review_marks).values(tenant=tenant, kind=name.kind, record=name.id, **values)
            connection.execute(row.on_conflict_do_update(index_elements=["tenant", "kind", "record"], set_=values))
            connection.execute(delete(review_claims).where(_of(review_claims, tenant, name)))
            within(connection, name.id)
        return ReviewMark(kind=name.kind, id=name.id, reviewed_at=moment, reviewed_by=by)

    def unmark(self, tenant: str, name: ItemName, within: Within = nothing_else) -> None:
        """Take the mark of an item back; no error where it has none.

        Raises:
            NotFound: its image or decision does not exist.
        """
        with self.database.write() as connection:
            self._find(connection, tenant, name)
            connection.execute(delete(review_marks).where(_of(review_marks, tenant, name)))
            within(connection, name.id)

    def _find(self, connection: Connection, tenant: str, name: ItemName) -> ExistingItem:
        for item in self.existing(connection, tenant, [name]):
            return item
        what = "stored decision" if name.kind is ReviewKind.DECISION else name.kind.value
        raise NotFound(f"there is no {what} {name.id!r}")


def _of(table: Table, tenant: str, name: ItemName) -> Any:
    return (table.c.tenant == tenant) & (table.c.kind == name.kind) & (table.c.record == name.id)
