"""The tombstones and blocks of a removal, as the mirror stores them beside the removal's receipt."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Table, select

from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import blocks, tombstones
from visual_memory.services.receipts.mirror.mirror_files import RemovedDigests

PAGE = 5000


class MirroredDigests:
    """Reads tombstones and blocks from the records, and adds those that a mirror has.

    Args:
        database: the records' database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def pages(self, removal_id: str) -> Iterator[RemovedDigests]:
        """The digests of a removal in pages, always in the same order."""
        last = ""
        while page := self._tombstones(removal_id, last):
            yield RemovedDigests(tombstones=page)
            last = page[-1]
        after = ("", "")
        while found := self._blocks(removal_id, after):
            yield RemovedDigests(blocks=found)
            after = found[-1]

    def add(self, connection: Connection, tenant: str, removal_id: str, page: RemovedDigests) -> None:
        """Add a page from the mirror, as part of a transaction; existing digests are kept."""
        rows = [{"tenant": tenant, "digest": each, "removal": removal_id} for each in page.tombstones]
        self._add(connection, tombstones, rows)
        kinds = [{"tenant": tenant, "kind": kind, "digest": each, "removal": removal_id} for kind, each in page.blocks]
        self._add(connection, blocks, kinds)

    def _add(self, connection: Connection, table: Table, rows: Sequence[dict[str, str]]) -> None:
        if rows:
            connection.execute(self._database.insert(table).on_conflict_do_nothing(), rows)

    def _tombstones(self, removal_id: str, after: str) -> Sequence[str]:
        digest = tombstones.c.digest
        found = select(digest).where(tombstones.c.removal == removal_id, digest > after).order_by(digest).limit(PAGE)
        with self._database.read() as connection:
            return connection.execute(found).scalars().all()

    def _blocks(self, removal_id: str, after: tuple[str, str]) -> Sequence[tuple[str, str]]:
        kind, digest = blocks.c.kind, blocks.c.digest
        later = (kind > after[0]) | ((kind == after[0]) & (digest > after[1]))
        found = select(kind, digest).where(blocks.c.removal == removal_id, later).order_by(kind, digest).limit(PAGE)
        with self._database.read() as connection:
            return [(row.kind, row.digest) for row in connection.execute(found)]
