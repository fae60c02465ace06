"""Find the images of a backup that must not be restored, because they were removed before the backup or since."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, union

from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.receipt import Event
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import receipt_log, removals, tombstones
from visual_memory.services.removal.blocklist import Blocklist
from visual_memory.services.removal.tombstones import Tombstones, picture_digest


@dataclass(frozen=True)
class RemovedImages:
    """Recognises removed images by tombstones and blocks.

    The tombstone of a picture identifies one accepted picture. The tombstone of an image identifies everything that was
    accepted under its id before the removal was requested: a backup may contain an earlier picture of the image.
    """

    database: Database
    blocks: Blocklist
    tombstones: Tombstones

    def among(self, images: Sequence[StoredImage]) -> set[str]:
        """The picture keys of those images that were removed or are blocked."""
        found: set[str] = set()
        for tenant in {image.tenant for image in images}:
            of_tenant = [image for image in images if image.tenant == tenant]
            found |= {image.picture for image in self.blocks.blocked_among(of_tenant)}
            found |= self._with_tombstone(tenant, of_tenant)
        return found

    def _with_tombstone(self, tenant: str, images: Sequence[StoredImage]) -> set[str]:
        by_picture = {picture_digest(image.picture): image for image in images}
        by_id = {self.tombstones.image_digest(image.tenant, image.image_id): image for image in images}
        removals_of = self._removals_of(tenant, {*by_picture, *by_id})
        requested_at = self._requested_at({removal for each in removals_of.values() for removal in each})
        found = {by_picture[digest].picture for digest in removals_of if digest in by_picture}
        for digest, named in removals_of.items():
            image = by_id.get(digest)
            if image and any(image.accepted_at <= requested_at[each] for each in named if each in requested_at):
                found.add(image.picture)
        return found

    def _removals_of(self, tenant: str, digests: Collection[str]) -> dict[str, list[str]]:
        """The removals of those digests that are tombstones."""
        rows = select(tombstones.c.digest, tombstones.c.removal).where(
            tombstones.c.tenant == tenant, tombstones.c.digest.in_(digests)
        )
        found = defaultdict(list)
        with self.database.read() as connection:
            for digest, removal in connection.execute(rows):
                found[digest].append(removal)
        return found

    def _requested_at(self, ids: Iterable[str]) -> dict[str, datetime]:
        """When removals were requested, from their records or the log."""
        named = [*ids]
        recorded = select(removals.c.id.label("removal"), removals.c.requested_at.label("at")).where(
            removals.c.id.in_(named)
        )
        logged = select(receipt_log.c.removal, receipt_log.c.at).where(
            receipt_log.c.removal.in_(named), receipt_log.c.event == Event.REQUESTED
        )
        with self.database.read() as connection:
            return {row.removal: row.at for row in connection.execute(union(logged, recorded))}
