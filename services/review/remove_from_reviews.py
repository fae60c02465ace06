"""Delete the marks and claims that name removed images: the reviews' hook of a removal.

Those of decisions are deleted with the decisions.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Table, delete, select, tuple_

from visual_memory.schemas.review import ItemName, ReviewKind
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.tables import review_claims, review_marks
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.covered_image_records import CoveredImage, CoveredImages
from visual_memory.services.review.existing_items import reviews_lock
from visual_memory.services.review.review_rows import image_of, names_of_image

TABLES = (review_marks, review_claims)
AT_ONCE = 100
"""Images whose marks and claims one statement deletes."""


@dataclass(frozen=True)
class RemoveFromReviews:
    """The hook, for every tenant's marks and claims."""

    database: Database
    memory: Memory

    def remove_covered(self, tenant: str, covered: CoveredImages) -> None:
        """Delete the marks and claims of removed images."""
        with self.database.write(urgent=True) as connection:  # waits for transactions that still read the images
            self.database.serial(connection, reviews_lock(tenant))
        if self._has_any(tenant):
            for page in covered:
                self._delete(tenant, (image.image_id for image in page))

    def count_covered(self, tenant: str, images: Sequence[CoveredImage]) -> int:
        """How many marks and claims name covered images whose ids no other image has by now."""
        if not self._has_any(tenant):
            return 0
        ids = {image.image_id for image in images}
        gone, found = ids - self.memory.images.get(tenant, ids).keys(), 0
        for batch in batches(sorted(gone), AT_ONCE):
            with self.database.read() as connection:
                queries = [select(table.c.record).where(where) for table, where in _of_images(tenant, batch)]
                found += sum(len(connection.execute(query).all()) for query in queries)
        return found

    def reconcile_all(self) -> int:
        """After a restore, end all claims, and delete the marks of images that are not there.

        A backup may be older than some removals, and than its claims' minute.

        Returns:
            the number of images whose marks were deleted.
        """
        with self.database.write(urgent=True) as connection:
            connection.execute(delete(review_claims))
        deleted = 0
        for tenant, image_ids in self._marked_images():
            missing = image_ids - self.memory.images.get(tenant, image_ids).keys()
            self._delete(tenant, missing)
            deleted += len(missing)
        return deleted

    def _has_any(self, tenant: str) -> bool:
        with self.database.read() as connection:
            queries = (select(table.c.record).where(table.c.tenant == tenant).limit(1) for table in TABLES)
            return any(connection.execute(query).first() is not None for query in queries)

    def _delete(self, tenant: str, image_ids: Iterable[str]) -> None:
        for batch in batches(image_ids, AT_ONCE):
            with self.database.write(urgent=True) as connection:
                for table, where in _of_images(tenant, batch):
                    connection.execute(delete(table).where(where))

    def _marked_images(self) -> Iterator[tuple[str, set[str]]]:
        """The ids of marked images, by tenant, in batches."""
        columns = (review_marks.c.tenant, review_marks.c.kind, review_marks.c.record)
        query, last = select(*columns).order_by(*columns).limit(AT_ONCE), ("", "", "")
        while True:
            with self.database.read() as connection:
                rows = connection.execute(query.where(tuple_(*columns) > tuple_(*last))).all()
            if not rows:
                return
            last = tuple(rows[-1])
            for tenant in {row.tenant for row in rows}:
                own = (ItemName(kind=row.kind, id=row.record) for row in rows if row.tenant == tenant)
                yield tenant, {image_id for name in own if (image_id := image_of(name)) is not None}


def _of_images(tenant: str, image_ids: Collection[str]) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """Each table, and which of its rows name some images, by kind."""
    names = [name for image_id in image_ids for name in names_of_image(image_id)]
    for table in TABLES:
        for kind in (ReviewKind.IMAGE, ReviewKind.SUSPECT):
            records = [record for of, record in names if of is kind]
            yield table, (table.c.tenant == tenant) & (table.c.kind == kind.value) & table.c.record.in_(records)
