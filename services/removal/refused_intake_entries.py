"""The intake entries that removals took: counted for their receipts, and never accepted again.

The records stay when a removal is done. An intake that lost its last second may contain a removed entry again, and a
suspended reader may still hold one in memory. Neither may accept it.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import refused_entries as refused
from visual_memory.services.infrastructure.records.tables import removals, tombstones
from visual_memory.services.removal.tombstones import Tombstones

BATCH = 500


@dataclass(frozen=True)
class RefusedEntry:
    """An entry that a removal takes.

    Attributes:
        entry: its position in the tenant's stream, also if it became a dead letter later; its name if it never was in
            the stream.
        image_id: the image id that it names, if any.
    """

    entry: str
    image_id: str | None


class RefusedEntries:
    """The refused entries of every tenant's removals.

    Args:
        database: the records' database.
        tombstones: receives the tombstones of the images that entries name.
    """

    def __init__(self, database: Database, tombstones: Tombstones) -> None:
        self._database = database
        self._tombstones = tombstones

    def add(self, connection: Connection, tenant: str, removal_id: str, entries: Iterable[RefusedEntry]) -> None:
        """Record entries that a removal takes, as part of a transaction; each counts once."""
        rows = [
            {"tenant": tenant, "entry": each.entry, "removal": removal_id, "image_id": each.image_id}
            for each in entries
        ]
        if rows:
            connection.execute(self._database.insert(refused).on_conflict_do_nothing(), rows)
            ids = {each["image_id"] for each in rows if each["image_id"] is not None}
            self._tombstones.add(connection, tenant, removal_id, ids)

    def count(self, connection: Connection, removal_id: str) -> int:
        """The number of entries that a removal took."""
        return connection.execute(select(func.count()).where(refused.c.removal == removal_id)).scalar_one()

    def image_ids(self, removal_id: str) -> Iterator[list[str]]:
        """The image ids that a removal's entries name, in pages; none once the removal is done."""
        named = select(refused.c.image_id).where(refused.c.removal == removal_id, refused.c.image_id.is_not(None))
        query, last = named.distinct().order_by(refused.c.image_id).limit(BATCH), ""
        while True:
            with self._database.read() as connection:
                found = [*connection.execute(query.where(refused.c.image_id > last)).scalars()]
            if found:
                yield found
                last = found[-1]
            if len(found) < BATCH:
                return

    def named_among(self, removal_id: str, image_ids: Collection[str]) -> set[str]:
        """Those of some image ids that a removal's entries name."""
        query = select(refused.c.image_id).where(refused.c.removal == removal_id, refused.c.image_id.in_([*image_ids]))
        with self._database.read() as connection:
            return {*connection.execute(query).scalars()} - {None}

    def clear_image_ids(self, connection: Connection, removal_id: str) -> None:
        """Delete the image ids of a removal's entries, as part of the transaction that ends the removal."""
        connection.execute(update(refused).where(refused.c.removal == removal_id).values(image_id=None))

    def refused_among(self, tenant: str, positions: Collection[str]) -> set[str]:
        """Those of some positions whose entries any removal took."""
        given, found = sorted(positions), set[str]()
        with self._database.read() as connection:
            for start in range(0, len(given), BATCH):
                some = refused.c.entry.in_(given[start : start + BATCH])
                found |= {
                    *connection.execute(select(refused.c.entry).where(refused.c.tenant == tenant, some)).scalars()
                }
        return found

    def covers(self, tenant: str, position: str, image_id: str) -> bool:
        """Whether a removal that is later than an entry covered an image of this id, or everything.

        Args:
            tenant: the entry's tenant.
            position: the entry's position.
            image_id: of the entry's image; it may be known only after its picture was fetched.
        """
        digest = self._tombstones.image_digest(tenant, image_id)
        covering = select(tombstones.c.removal).where(tombstones.c.tenant == tenant, tombstones.c.digest == digest)
        query = select(removals.c.intake_position).where(
            removals.c.tenant == tenant,
            removals.c.intake_position.is_not(None),
            removals.c.everything | removals.c.id.in_(covering),
        )
        with self._database.read() as connection:
            return any(is_at_or_before(position, each) for each in connection.execute(query).scalars())


def is_at_or_before(position: str, other: str) -> bool:
    """Whether a position of a stream is equal to or before another; positions are ``MILLISECONDS-NUMBER``."""
    return _sort_key(position) <= _sort_key(other)


def latest_position(positions: Sequence[str]) -> str:
    """The last of some positions."""
    return max(positions, key=_sort_key)


def _sort_key(position: str) -> tuple[int, int]:
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number or 0)
