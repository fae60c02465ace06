"""The rows that mirroring reads: by which digests what was removed is known again, and which receipts were given."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Table, select

from visual_memory.schemas.errors import NotFound
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import blocks, removals, tombstones
from visual_memory.services.receipts.mirror_files import RemovedDigests

PAGE = 5000
WAITING = "waiting for the mirror"
"""How the reason begins why a removal, or its erasure, does not go on."""


class MirrorRows:
    """Tombstones, blocks and receipts of removals.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def pages(self, removal_id: str) -> Iterator[RemovedDigests]:
        """Those of a removal, always in the same order."""
        last = ""
        while page := self._tombstones(removal_id, last):
            yield RemovedDigests(tombstones=page)
            last = page[-1]
        after = ("", "")
        while found := self._blocks(removal_id, after):
            yield RemovedDigests(blocks=found)
            after = found[-1]

    def adopt(self, connection: Connection, tenant: str, removal_id: str, page: RemovedDigests) -> None:
        """Write down a page that is known from elsewhere; what is there already stays."""
        rows = [{"tenant": tenant, "digest": each, "removal": removal_id} for each in page.tombstones]
        self._add(connection, tombstones, rows)
        kinds = [{"tenant": tenant, "kind": kind, "digest": each, "removal": removal_id} for kind, each in page.blocks]
        self._add(connection, blocks, kinds)

    def waits_for(self) -> str | None:
        """Why the receipt of some removal waits for the mirror; None where none does."""
        waiting = select(removals.c.waits_for).where(removals.c.waits_for.startswith(WAITING))
        with self._database.read() as connection:
            reason: str | None = connection.execute(waiting.limit(1)).scalar_one_or_none()
        return reason

    def given(self, tenant: str, removal_id: str, *, erasure: bool = False) -> str | None:
        """The receipt of a removal, or of its erasure, as it was given; None where it was not given yet.

        Raises:
            NotFound: there is no such removal.
        """
        text = removals.c.erasure_receipt if erasure else removals.c.receipt
        with self._database.read() as connection:
            found = select(text).where(removals.c.tenant == tenant, removals.c.id == removal_id)
            row = connection.execute(found).one_or_none()
        if row is None:
            raise NotFound(f"there is no removal {removal_id!r}")
        return None if row[0] is None else str(row[0])

    def is_given(self, removal_id: str, receipt: str) -> bool:
        """Whether a receipt was given."""
        texts = select(removals.c.receipt, removals.c.erasure_receipt).where(removals.c.id == removal_id)
        with self._database.read() as connection:
            row = connection.execute(texts).one_or_none()
        return row is not None and receipt in tuple(row)

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
