"""Find what items name, within the transaction that writes their marks or claims.

Marks and claims name images, so a removal deletes those of its images (`services.review.remove_from_reviews`), after it
has deleted the images. A transaction that writes some shares a lock that a removal waits for, and reads the images
while it holds it. So a removal whose image it still reads deletes what it writes. What it writes of a decision
refers to the decision's row, and is deleted with that.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, select

from visual_memory.schemas.review import ItemName, ReviewKind
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import decisions
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.review.review_rows import image_of, seen_as


@dataclass(frozen=True)
class ExistingItem:
    """What an item names.

    Attributes:
        decision: the number of the decision; None for images.
        seen: a digest of the image as it is; empty for decisions.
    """

    name: ItemName
    decision: int | None = None
    seen: str = ""


@dataclass(frozen=True)
class ExistingItems:
    """Finds what items name."""

    database: Database
    memory: Memory

    def __call__(self, connection: Connection, tenant: str, names: Iterable[ItemName]) -> list[ExistingItem]:
        """Those items whose image or decision exists, in their order; holds a lock until the transaction ends.

        Args:
            connection: of a writing transaction.
            tenant: whose items.
            names: at most some hundred.
        """
        self.database.serial(connection, reviews_lock(tenant), shared=True)
        given = list(dict.fromkeys(names))
        ids = [name.id for name in given if name.kind is ReviewKind.DECISION]
        where = (decisions.c.tenant == tenant) & decisions.c.id.in_(ids)
        query = select(decisions.c.id, decisions.c.number).where(where)
        # decisions that are being deleted are skipped
        rows = connection.execute(query.with_for_update(read=True, key_share=True, skip_locked=True))
        numbers = {row.id: row.number for row in rows}
        image_ids = {image_id for name in given if (image_id := image_of(name)) is not None}
        images = self.memory.images.get(tenant, image_ids) if image_ids else {}
        found = list[ExistingItem]()
        for name in given:
            image = images.get(image_of(name) or "")
            if name.kind is ReviewKind.DECISION and name.id in numbers:
                found.append(ExistingItem(name, decision=numbers[name.id]))
            elif image is not None and image.removal is None:
                found.append(ExistingItem(name, seen=seen_as(image, name.kind)))
        return found


def reviews_lock(tenant: str) -> str:
    """The name of the lock that transactions writing marks and claims share, and that a removal takes alone."""
    return f"reviews:{tenant}"
