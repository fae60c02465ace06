"""Tombstones: digests that identify removed images and pictures without revealing what they were."""

import hmac
from collections.abc import Collection, Iterable
from hashlib import sha256

from sqlalchemy import Connection, select

from visual_memory.schemas.image import point_id
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.tables import removals, tombstones


class Tombstones:
    """The tombstones of every tenant's removals. They are never deleted.

    Args:
        database: the records' database.
        key: 32 secret bytes for the tombstones of images, used for nothing else.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key

    def add(
        self,
        connection: Connection,
        tenant: str,
        removal_id: str,
        image_ids: Iterable[str],
        pictures: Iterable[str] = (),
    ) -> None:
        """Add the tombstones of images and pictures, as part of a transaction; existing ones are kept."""
        digests = {picture_digest(each) for each in pictures}
        digests |= {self.image_digest(tenant, each) for each in image_ids}
        if digests:
            rows = [{"tenant": tenant, "digest": digest, "removal": removal_id} for digest in sorted(digests)]
            connection.execute(self._database.insert(tombstones).on_conflict_do_nothing(), rows)

    def removed_among(self, tenant: str, pictures: Collection[str]) -> set[str]:
        """Those of some picture keys that a removal covered, if it has deleted everything that it covers."""
        digests = {picture_digest(picture): picture for picture in pictures}
        deleting = select(removals.c.id).where(
            removals.c.id == tombstones.c.removal, removals.c.step.in_(["mark", "delete"])
        )
        query = select(tombstones.c.digest).where(
            tombstones.c.tenant == tenant, tombstones.c.digest.in_([*digests]), ~deleting.exists()
        )
        with self._database.read() as connection:
            return {digests[digest] for digest in connection.execute(query).scalars()}

    def covered_among(self, connection: Connection, tenant: str, pictures: Iterable[str]) -> set[str]:
        """Those of some picture keys that a removal covers, running or done; as part of a transaction."""
        digests, found = {picture_digest(picture): picture for picture in pictures}, set[str]()
        for batch in batches(digests):
            named = (tombstones.c.tenant == tenant) & tombstones.c.digest.in_(batch)
            found.update(
                digests[each] for each in connection.execute(select(tombstones.c.digest).where(named)).scalars()
            )
        return found

    def image_digest(self, tenant: str, image_id: str) -> str:
        """The tombstone of an image, whichever picture it had. It is keyed because callers choose image ids."""
        return hmac.digest(self._key, point_id(tenant, image_id).encode(), sha256).hex()


def picture_digest(picture: str) -> str:
    """The tombstone of a picture: SHA-256 of its key, which is random and new for each accepted picture."""
    return sha256(picture.encode()).hexdigest()
