"""Backups as a restore reads them: today's, and those of the first format, which were JSON in a tar."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.backup import archive_reader_v1
from visual_memory.services.backup.archive_reader import Archive, Page, Picture, is_zip
from visual_memory.services.backup.restore_backup import BackupSource
from visual_memory.services.infrastructure.records import table_rows
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.memory.points.normalise_stored_text import respelled_fields
from visual_memory.services.receipts.receipt_signature import ReceiptSigner
from visual_memory.services.vector_engines.engine_contract import Point

CHUNK = 2**20


def open_source(file: Path, signer: ReceiptSigner, import_records: Callable[[Database, Path], object]) -> BackupSource:
    """The backup in a file, after every part of it was checked as far as its format allows.

    Args:
        file: the backup.
        signer: of the service that made it.
        import_records: brings a folder of JSON records into the database.

    Raises:
        InvalidRequest: it is no whole backup, or was changed.
    """
    if is_zip(file):
        return ArchiveSource(Archive(file, signer))
    archive = archive_reader_v1.Archive(file)
    _check_first_format(file, archive)
    return TarSource(file, archive, import_records)


@dataclass(frozen=True)
class ArchiveSource:
    """A backup of today's format."""

    archive: Archive

    @property
    def digest(self) -> str:
        """Of its signed manifest."""
        return self.archive.digest

    @property
    def begun_at(self) -> datetime:
        """A moment before anything was read for it."""
        return self.archive.manifest.begun_at

    @property
    def is_signed(self) -> bool:
        """Whether it is known to be as it was made."""
        return True

    @property
    def vectors(self) -> Mapping[str, int]:
        """Names and sizes of its collection's vectors."""
        return self.archive.manifest.vectors

    def restore_records(self, database: Database) -> int:
        """Write its rows into an empty database; returns how many."""
        for each in self.archive.rows():
            table_rows.put(database, each.table, each.rows)
        return self.archive.manifest.contents.records

    def images(self) -> Iterator[Page | Picture]:
        """Each page of points, and after it its pictures."""
        return self.archive.images()


@dataclass(frozen=True)
class TarSource:
    """A backup of the first format: unsigned, so that only its form, its counts and its pictures could be checked."""

    file: Path
    archive: archive_reader_v1.Archive
    import_records: Callable[[Database, Path], object]

    @property
    def digest(self) -> str:
        """Of the file."""
        found = sha256()
        with self.file.open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
        return found.hexdigest()

    @property
    def begun_at(self) -> datetime:
        """A moment before anything was read for it."""
        return self.archive.manifest.begun_at

    @property
    def is_signed(self) -> bool:
        """Whether it is known to be as it was made."""
        return False

    @property
    def vectors(self) -> Mapping[str, int]:
        """Names and sizes of its collection's vectors."""
        return self.archive.manifest.vectors

    def restore_records(self, database: Database) -> int:
        """Import its records, as those of a data folder of that version; returns how many there were."""
        with TemporaryDirectory(prefix="visual-memory-restore-") as folder:
            files, number = BlobStore(Path(folder) / "records"), 0
            for key, value in self.archive.records():
                files.write(key, json.dumps(value).encode())
                number += 1
            self.import_records(database, Path(folder))
        return number

    def images(self) -> Iterator[Page | Picture]:
        """Each page of points, and after it its pictures."""
        for each in self.archive.images():
            yield (
                Page([_respelled(point) for point in each]) if isinstance(each, list) else Picture(each.key, each.data)
            )


def _check_first_format(file: Path, archive: archive_reader_v1.Archive) -> None:
    """Refuse what can be seen to be damaged: a page that is missing, a picture that is another than was sent."""
    points, hashes = 0, dict[str, str]()
    try:
        for each in archive.images():
            if isinstance(each, list):
                points += len(each)
                hashes = {point.payload["picture"]: point.payload["content_hash"] for point in each}
            elif sha256(each.data).hexdigest() != hashes.get(each.key):
                raise InvalidRequest(f"{file} is damaged: the picture {each.key} is another than was sent")
        for _ in archive.records():  # reading one parses it
            pass
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{file} is damaged: {error}") from None
    if points != archive.contents.points:
        raise InvalidRequest(f"{file} is damaged: it says that it holds {archive.contents.points} images, not {points}")


def _respelled(point: Point) -> Point:
    return replace(point, payload=point.payload | respelled_fields(point.payload))
