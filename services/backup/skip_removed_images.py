"""Which images of a backup stay away: what was removed, before it or since."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, union

from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.receipt import Event
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import receipt_log, removals, tombstones
from visual_memory.services.removal.blocklist import Blocklist


@dataclass(frozen=True)
class RemovedImages:
    """Tells removed images from others, by tombstones and blocks.

    A tombstone of a picture is of that very acceptance. A tombstone of an image, too, is of all that was accepted under
    its id before the removal was asked for: a backup may hold an earlier picture of it.

    Attributes:
        of_picture: the tombstone's digest of a picture's key.
        of_image: the tombstone's digest of an image.
    """

    database: Database
    blocks: Blocklist
    of_picture: Callable[[str], str]
    of_image: Callable[[StoredImage], str]

    def among(self, images: Sequence[StoredImage]) -> set[str]:
        """The picture keys of those that were removed or are refused."""
        gone: set[str] = set()
        for tenant in {image.tenant for image in images}:
            own = [image for image in images if image.tenant == tenant]
            gone |= {image.picture for image in self.blocks.among(own)} | self._buried(tenant, own)
        return gone

    def _buried(self, tenant: str, images: Sequence[StoredImage]) -> set[str]:
        pictures = {self.of_picture(image.picture): image for image in images}
        ids = {self.of_image(image): image for image in images}
        found = self._tombstones(tenant, {*pictures, *ids})
        asked = self._asked_at({removal for each in found.values() for removal in each})
        gone = {pictures[digest].picture for digest in found if digest in pictures}
        for digest, named in found.items():
            image = ids.get(digest)
            if image and any(image.accepted_at <= asked[each] for each in named if each in asked):
                gone.add(image.picture)
        return gone

    def _tombstones(self, tenant: str, digests: Collection[str]) -> dict[str, list[str]]:
        rows = select(tombstones.c.digest, tombstones.c.removal).where(
            tombstones.c.tenant == tenant, tombstones.c.digest.in_(digests)
        )
        found = defaultdict(list)
        with self.database.read() as connection:
            for digest, removal in connection.execute(rows):
                found[digest].append(removal)
        return found

    def _asked_at(self, ids: Iterable[str]) -> dict[str, datetime]:
        named = [*ids]
        known = select(removals.c.id.label("removal"), removals.c.requested_at.label("at")).where(
            removals.c.id.in_(named)
        )
        logged = select(receipt_log.c.removal, receipt_log.c.at).where(
            receipt_log.c.removal.in_(named), receipt_log.c.event == Event.REQUESTED
        )
        with self.database.read() as connection:
            return {row.removal: row.at for row in connection.execute(union(logged, known))}
