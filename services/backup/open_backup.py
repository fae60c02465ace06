"""Open a backup of any format for a restore, after checking it as far as its format allows."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.backup.archive_format import ArchivedPicture, PointPage
from visual_memory.services.backup.archive_reader import ArchiveReader, is_zip
from visual_memory.services.backup.archive_reader_v1 import ArchiveReaderV1
from visual_memory.services.infrastructure.records import backup_table_rows
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.memory.points.normalise_stored_text import normalised_fields
from visual_memory.services.receipts.receipt_signature import ReceiptSigner
from visual_memory.services.vector_engines.engine_contract import Point

CHUNK = 2**20


class BackupSource(Protocol):
    """A checked backup of any format."""

    @property
    def digest(self) -> str:
        """SHA-256 that identifies the backup."""

    @property
    def begun_at(self) -> datetime:
        """A moment before anything was read for the backup."""

    @property
    def is_signed(self) -> bool:
        """Whether a signature proves that the backup is unchanged."""

    @property
    def vectors(self) -> Mapping[str, int]:
        """Names and sizes of the collection's vectors."""

    def restore_records(self, database: Database) -> int:
        """Write the records into an empty database; returns their number."""

    def images(self) -> Iterator[PointPage | ArchivedPicture]:
        """Each page of points, followed by its pictures."""


def open_backup(file: Path, signer: ReceiptSigner, import_records: Callable[[Database, Path], object]) -> BackupSource:
    """Open and check a backup.

    Args:
        file: the backup.
        signer: of the service that created it.
        import_records: imports a folder of JSON records into the database.

    Raises:
        InvalidRequest: the file is no backup, incomplete, or was changed.
    """
    if is_zip(file):
        return ZipBackup(ArchiveReader(file, signer))
    archive = ArchiveReaderV1(file)
    _check_format_1(file, archive)
    return TarBackup(file, archive, import_records)


@dataclass(frozen=True)
class ZipBackup:
    """A backup of the current format."""

    archive: ArchiveReader

    @property
    def digest(self) -> str:
        """The digest of the signed manifest."""
        return self.archive.digest

    @property
    def begun_at(self) -> datetime:
        """A moment before anything was read for the backup."""
        return self.archive.manifest.begun_at

    @property
    def is_signed(self) -> bool:
        """True: the manifest is signed."""
        return True

    @property
    def vectors(self) -> Mapping[str, int]:
        """Names and sizes of the collection's vectors."""
        return self.archive.manifest.vectors

    def restore_records(self, database: Database) -> int:
        """Write the rows into an empty database; returns their number."""
        for each in self.archive.rows():
            backup_table_rows.put(database, each.table, each.rows)
        return self.archive.manifest.contents.records

    def images(self) -> Iterator[PointPage | ArchivedPicture]:
        """Each page of points, followed by its pictures."""
        return self.archive.images()


@dataclass(frozen=True)
class TarBackup:
    """A backup of format 1. It is unsigned: only its form, its counts and its pictures could be checked."""

    file: Path
    archive: ArchiveReaderV1
    import_records: Callable[[Database, Path], object]

    @property
    def digest(self) -> str:
        """The digest of the file."""
        found = sha256()
        with self.file.open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
        return found.hexdigest()

    @property
    def begun_at(self) -> datetime:
        """A moment before anything was read for the backup."""
        return self.archive.manifest.begun_at

    @property
    def is_signed(self) -> bool:
        """False: format 1 has no signature."""
        return False

    @property
    def vectors(self) -> Mapping[str, int]:
        """Names and sizes of the collection's vectors."""
        return self.archive.manifest.vectors

    def restore_records(self, database: Database) -> int:
        """Import the records as from a data folder of that version; returns their number."""
        with TemporaryDirectory(prefix="visual-memory-restore-") as folder:
            files, number = BlobStore(Path(folder) / "records"), 0
            for key, value in self.archive.records():
                files.write(key, json.dumps(value).encode())
                number += 1
            self.import_records(database, Path(folder))
        return number

    def images(self) -> Iterator[PointPage | ArchivedPicture]:
        """Each page of points, with text normalised as in this version, followed by its pictures."""
        for each in self.archive.images():
            yield PointPage([_with_normalised_text(point) for point in each]) if isinstance(each, list) else each


def _check_format_1(file: Path, archive: ArchiveReaderV1) -> None:
    """Refuse a backup with a missing page, or with a picture whose content is not that of its image."""
    points, hashes = 0, dict[str, str]()
    try:
        for each in archive.images():
            if isinstance(each, list):
                points += len(each)
                hashes = {point.payload["picture"]: point.payload["content_hash"] for point in each}
            elif sha256(each.data).hexdigest() != hashes.get(each.key):
                raise InvalidRequest(f"{file} is damaged: the picture {each.key} is another than was sent")
        for _ in archive.records():  # reading a record parses it
            pass
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{file} is damaged: {error}") from None
    if points != archive.contents.points:
        raise InvalidRequest(f"{file} is damaged: it says that it holds {archive.contents.points} images, not {points}")


def _with_normalised_text(point: Point) -> Point:
    return replace(point, payload=point.payload | normalised_fields(point.payload))
