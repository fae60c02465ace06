"""Take removed images out of the records of changes: the changes' hook of a removal.

A removal deletes what was recorded of its images, and of any image whose former fields contain a value that its filter
names. A change that loses images so can still be undone for the others.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, select, tuple_

from visual_memory.services.changes.change_mentions import mention_hash
from visual_memory.services.changes.change_records import PAGE, changes_lock
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.tables import change_mentions, changed_images
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.blocklist import SUBJECT, Blocklist
from visual_memory.services.removal.covered_image_records import CoveredImage, CoveredImages
from visual_memory.services.removal.values_named_in_filters import named_values

Rows = Sequence[Row[Any]]


@dataclass(frozen=True)
class RemoveFromChanges:
    """The hook, for the changes of every tenant."""

    database: Database
    memory: Memory
    blocks: Blocklist

    def remove_covered(self, tenant: str, covered: CoveredImages) -> None:
        """Delete what changes recorded of removed images, and what names a value of the removal's filter."""
        with self.database.write(urgent=True) as connection:  # waits for those that did not see the tombstones
            self.database.serial(connection, changes_lock(tenant))
        for batch in batches(mention_hash(tenant, name) for name in named_values(covered.filter)):
            self._delete_mentioning(tenant, batch)
        for page in covered:
            for ids in batches(image.image_id for image in page):
                self._delete((changed_images.c.tenant == tenant) & changed_images.c.image_id.in_(ids))

    def count_covered(self, tenant: str, images: Sequence[CoveredImage]) -> int:
        """How many records of changes there are of covered images."""
        found = 0
        for batch in batches(images):
            pictures = changed_images.c.picture.in_([image.picture for image in batch])
            ids = changed_images.c.image_id.in_([image.image_id for image in batch])
            query = select(changed_images.c.image_id).where(changed_images.c.tenant == tenant, ids, pictures)
            with self.database.read() as connection:
                found += len(connection.execute(query).all())
        return found

    def pictures(self, tenant: str) -> Iterator[list[str]]:
        """The pictures that changes refer to, in pages."""
        for rows in self._pages(changed_images.c.tenant == tenant):
            yield [row.picture for row in rows]

    def delete_pictures(self, tenant: str, pictures: Collection[str]) -> None:
        """Delete what changes recorded of images with some pictures."""
        for batch in batches(pictures):
            self._delete((changed_images.c.tenant == tenant) & changed_images.c.picture.in_(batch))

    def reconcile_all(self) -> int:
        """After a restore, delete what changes recorded of images that are not in the memory, or of blocked subjects.

        A backup may be older than some removals.

        Returns:
            the number of deleted records.
        """
        deleted = 0
        for rows in self._pages(changed_images.c.tenant.is_not(None)):
            stored = self._pictures_stored(rows)
            gone = [row for row in rows if row.picture not in stored or self._is_blocked(row)]
            for batch in batches(gone):
                named = tuple_(changed_images.c.change, changed_images.c.image_id)
                self._delete(named.in_([(row.change, row.image_id) for row in batch]))
            deleted += len(gone)
        return deleted

    def _pictures_stored(self, rows: Rows) -> set[str]:
        ids: dict[str, list[str]] = {}
        for row in rows:
            ids.setdefault(row.tenant, []).append(row.image_id)
        found = (self.memory.images.get(tenant, named) for tenant, named in ids.items())
        return {image.picture for images in found for image in images.values()}

    def _is_blocked(self, row: Row[Any]) -> bool:
        subject = row.before.get("subject")
        return subject is not None and self.blocks.is_any_blocked(row.tenant, [(SUBJECT, subject)])

    def _delete_mentioning(self, tenant: str, hashes: Sequence[int]) -> None:
        mentioned = select(change_mentions.c.change, change_mentions.c.image_id).where(
            change_mentions.c.mention.in_(hashes)
        )
        named = tuple_(changed_images.c.change, changed_images.c.image_id)
        self._delete((changed_images.c.tenant == tenant) & named.in_(mentioned))

    def _delete(self, which: ColumnElement[bool]) -> None:
        with self.database.write(urgent=True) as connection:
            connection.execute(delete(changed_images).where(which))

    def _pages(self, which: ColumnElement[bool]) -> Iterator[Rows]:
        key, last = (changed_images.c.change, changed_images.c.image_id), None
        while True:
            query = select(changed_images).where(which).order_by(*key).limit(PAGE)
            if last is not None:
                query = query.where(tuple_(*key) > tuple_(last.change, last.image_id))
            with self.database.read() as connection:
                rows = connection.execute(query).all()
            if rows:
                yield rows
                last = rows[-1]
            if len(rows) < PAGE:
                return
