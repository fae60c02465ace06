"""Backup: points, pictures and records in one signed file, which any engine and either database takes.

What was computed from images is not in it: judgements, evaluations, questions. Records are read after the points, so
that they know of every removal that took one of these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.image import now
from visual_memory.services.backup.archive_reader import ArchiveWriter, Contents, Manifest, Picture, create_archive
from visual_memory.services.infrastructure.records import table_rows
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.upgrade_schema import HEAD
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.points.point_payload import to_image
from visual_memory.services.receipts.receipt_signature import ReceiptSigner
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Engine, Point

PAGE = 200
LEFT_OUT = frozenset(
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
"""Tables that no backup holds: made of images that may be removed since, or of the moment; and what refers to them."""


@dataclass(frozen=True)
class CreateBackup:
    """The use case, with the parts that it needs."""

    engine: Engine
    pictures: PictureStore
    database: Database
    signer: ReceiptSigner

    def __call__(self, file: Path) -> Contents:
        """Write everything into a new file; others are served meanwhile, and what they change may be in it or not.

        Raises:
            FileExistsError: the file is there already.
        """
        shape = self.engine.inspect()
        vectors = dict(shape.vectors) if shape else {}
        manifest = Manifest(begun_at=now(), vectors=vectors, schema_revision=HEAD)
        with create_archive(file) as archive:
            for page in self._points() if shape else ():
                archive.points(page, vectors)
                for picture in self._pictures(page):
                    archive.picture(picture)
            self._records(archive)
            return archive.end(manifest, self.signer).contents

    def _points(self) -> Iterator[Sequence[Point]]:
        cursor = None
        while True:
            page, cursor = self.engine.export(EVERY_POINT, PAGE, cursor)
            if page:
                yield page
            if cursor is None:
                return

    def _pictures(self, page: Sequence[Point]) -> Iterator[Picture]:
        for point in page:
            key = to_image(point.payload).picture
            try:
                yield Picture(key, self.pictures.read(key))
            except NotFound:  # it is being removed at this moment, or it came as a vector
                continue

    def _records(self, archive: ArchiveWriter) -> None:
        with self.database.snapshot() as connection:
            for table in table_rows.tables():
                if table.name not in LEFT_OUT:
                    for rows in table_rows.pages(connection, table):
                        archive.rows(table.name, rows)
