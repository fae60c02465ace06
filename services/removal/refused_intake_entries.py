"""The entries of the intake that removals took: counted for their receipts, and refused for good.

They stay when the removal is done. An intake that lost its last second may hold an entry again that had left, and a
reader that stood still may have it in its hands; neither may accept it.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import refused_entries as refused
from visual_memory.services.infrastructure.records.tables import removals, tombstones
from visual_memory.services.removal.removed_image_digests import image_tombstone

AT_ONCE = 500


@dataclass(frozen=True)
class RefusedEntry:
    """An entry that a removal takes.

    Attributes:
        entry: where it stands in the tenant's stream, or stood before it became a dead letter; of what never stood
            there, its name.
        image_id: that it names; None where it names none.
    """

    entry: str
    image_id: str | None


class RefusedEntries:
    """Those of every tenant's removals.

    Args:
        database: where they are.
        key: of tombstones of images, as `services.removal.covered_images.Notes` has it.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key

    def add(self, connection: Connection, tenant: str, removal_id: str, entries: Iterable[RefusedEntry]) -> None:
        """Write down what a removal takes, as part of a transaction; what is there already counts once."""
        rows = [
            {"tenant": tenant, "entry": each.entry, "removal": removal_id, "image_id": each.image_id}
            for each in entries
        ]
        if rows:
            connection.execute(self._database.insert(refused).on_conflict_do_nothing(), rows)
            ids = {each["image_id"] for each in rows if each["image_id"] is not None}
            self.bury(connection, tenant, removal_id, ids)

    def bury(self, connection: Connection, tenant: str, removal_id: str, image_ids: Iterable[str | None]) -> None:
        """Let images be known as removed by their ids, as part of a transaction."""
        digests = sorted({image_tombstone(self._key, tenant, each) for each in image_ids if each is not None})
        if digests:
            stones = [{"tenant": tenant, "digest": digest, "removal": removal_id} for digest in digests]
            connection.execute(self._database.insert(tombstones).on_conflict_do_nothing(), stones)

    def count(self, connection: Connection, removal_id: str) -> int:
        """How many a removal took."""
        return connection.execute(select(func.count()).where(refused.c.removal == removal_id)).scalar_one()

    def image_ids(self, removal_id: str) -> Iterator[list[str]]:
        """The image ids that they named, some at a time, as long as the removal is not done."""
        named = select(refused.c.image_id).where(refused.c.removal == removal_id, refused.c.image_id.is_not(None))
        asked, after = named.distinct().order_by(refused.c.image_id).limit(AT_ONCE), ""
        while True:
            with self._database.read() as connection:
                found = [*connection.execute(asked.where(refused.c.image_id > after)).scalars()]
            if found:
                yield found
                after = found[-1]
            if len(found) < AT_ONCE:
                return

    def naming(self, removal_id: str, image_ids: Collection[str]) -> set[str]:
        """Those of some image ids that entries named which a removal took."""
        asked = select(refused.c.image_id).where(refused.c.removal == removal_id, refused.c.image_id.in_([*image_ids]))
        with self._database.read() as connection:
            return {*connection.execute(asked).scalars()} - {None}

    def forget_image_ids(self, connection: Connection, removal_id: str) -> None:
        """Keep no name of what a removal took, as part of the transaction that ends it."""
        connection.execute(update(refused).where(refused.c.removal == removal_id).values(image_id=None))

    def among(self, tenant: str, positions: Collection[str]) -> set[str]:
        """Those of some positions whose entries a removal took, by now or long ago."""
        given, found = sorted(positions), set[str]()
        with self._database.read() as connection:
            for start in range(0, len(given), AT_ONCE):
                some = refused.c.entry.in_(given[start : start + AT_ONCE])
                found |= {
                    *connection.execute(select(refused.c.entry).where(refused.c.tenant == tenant, some)).scalars()
                }
        return found

    def covers(self, tenant: str, position: str, image_id: str) -> bool:
        """Whether a removal that an entry is older than covered an image of this id, or everything.

        Args:
            tenant: whose.
            position: where the entry stands.
            image_id: of its image, which may be known only once its picture was fetched.
        """
        digest = image_tombstone(self._key, tenant, image_id)
        stones = select(tombstones.c.removal).where(tombstones.c.tenant == tenant, tombstones.c.digest == digest)
        asked = select(removals.c.intake_position).where(
            removals.c.tenant == tenant,
            removals.c.intake_position.is_not(None),
            removals.c.everything | removals.c.id.in_(stones),
        )
        with self._database.read() as connection:
            return any(is_at_or_before(position, each) for each in connection.execute(asked).scalars())


def is_at_or_before(position: str, other: str) -> bool:
    """Whether a position of a stream is another or lies before it: they are ``MILLISECONDS-NUMBER``."""
    return _parts(position) <= _parts(other)


def latest_position(positions: Sequence[str]) -> str:
    """The greatest of some positions."""
    return max(positions, key=_parts)


def _parts(position: str) -> tuple[int, int]:
    moment, _, number = position.partition("-")
    return int(moment), int(number or 0)
