"""Create a backup: points, pictures and records in one signed file that any engine and either database can restore.

What was derived from images is excluded: judgements, evaluations, questions. Records are read after the points, so that
they include every removal of a point that was read. The service records each backup, because previews of removals name
the backups that hold their images; a restore records the backup that it restored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.moments import now
from visual_memory.services.backup.archive_format import ArchivedPicture, Contents, Manifest
from visual_memory.services.backup.archive_writer import ArchiveWriter, create_archive
from visual_memory.services.infrastructure.records import backup_table_rows
from visual_memory.services.infrastructure.records.backup_records import record_backup
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.upgrade_schema import HEAD
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.points.point_payload import to_image
from visual_memory.services.receipts.receipt_signature import ReceiptSigner
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Engine, Point

PAGE = 200
EXCLUDED_TABLES = frozenset(
    {
        "evaluation_pictures",
        "evaluations",
        "facts",
        "idempotency",
        "jobs",
        "judgement_uses",
        "judgements",
        "leases",
        "questions",
        "schedule",
    }
)
"""Tables of temporary state, or derived from images that may be removed before a restore; and what refers to them."""


@dataclass(frozen=True)
class CreateBackup:
    """Creates backups."""

    engine: Engine
    pictures: PictureStore
    database: Database
    signer: ReceiptSigner

    def __call__(self, file: Path) -> Contents:
        """Write everything into a new file. The service keeps running; its changes meanwhile may be missing.

        Raises:
            FileExistsError: the file exists already.
        """
        shape = self.engine.inspect()
        vectors = dict(shape.vectors) if shape else {}
        manifest = Manifest(begun_at=now(), vectors=vectors, schema_revision=HEAD)
        with create_archive(file) as archive:
            for page in self._point_pages() if shape else ():
                archive.points(page, vectors)
                for picture in self._pictures(page):
                    archive.picture(picture)
            self._write_records(archive)
            contents = archive.end(manifest, self.signer).contents
            record_backup(self.database, manifest.begun_at)  # before the file gets its name
            return contents

    def _point_pages(self) -> Iterator[Sequence[Point]]:
        cursor = None
        while True:
            page, cursor = self.engine.export(EVERY_POINT, PAGE, cursor)
            if page:
                yield page
            if cursor is None:
                return

    def _pictures(self, page: Sequence[Point]) -> Iterator[ArchivedPicture]:
        for point in page:
            key = to_image(point.payload).picture
            try:
                yield ArchivedPicture(key, self.pictures.read(key))
            except NotFound:  # it is being removed, or was sent as a vector
                continue

    def _write_records(self, archive: ArchiveWriter) -> None:
        with self.database.snapshot() as connection:
            for table in backup_table_rows.tables():
                if table.name not in EXCLUDED_TABLES:
                    for rows in backup_table_rows.pages(connection, table):
                        archive.rows(table.name, rows)
