"""Read a backup file, after checking every part against the signed manifest."""

import json
import zipfile
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.validation_faults import first_faults
from visual_memory.services.backup.archive_format import (
    FORMAT,
    MANIFEST,
    PICTURES,
    POINTS,
    RECORDS,
    SIGNED_AS,
    ArchivedPicture,
    ArchivePart,
    Manifest,
    PointPage,
    TableRows,
)
from visual_memory.services.infrastructure.records.upgrade_schema import HEAD
from visual_memory.services.receipts.receipt_signature import NotValid, ReceiptSigner, digest
from visual_memory.services.vector_engines.engine_contract import Point

CHUNK = 2**20
MAX_MANIFEST_BYTES = 64 * 2**20
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError)
"""What `zipfile` raises for a file that was changed."""


class ArchiveReader:
    """A complete archive, as it was created: every part matches the signed manifest.

    Args:
        file: the backup.
        signer: of the service that created it.

    Raises:
        InvalidRequest: the file is no backup, incomplete, changed, of another version, or signed by another service;
            the message says which.
    """

    def __init__(self, file: Path, signer: ReceiptSigner) -> None:
        self._file = file
        try:
            with zipfile.ZipFile(file) as members:
                text = _read_manifest(members)
                self.manifest = self._check_manifest(text, signer)
                self._check_parts(members)
        except DAMAGED as error:
            raise InvalidRequest(f"{file} is no backup, or damaged: {error}") from None
        self.digest = digest(text)

    def images(self) -> Iterator[PointPage | ArchivedPicture]:
        """Each page of points, followed by its pictures."""
        for name, table in self._tables(POINTS, PICTURES):
            if name.startswith(POINTS):
                yield PointPage(_points(table.to_pydict()))
            else:
                yield from _pictures(table)

    def rows(self) -> Iterator[TableRows]:
        """The rows of all tables, each table after those that it refers to."""
        for name, table in self._tables(RECORDS):
            yield TableRows(name.split("/")[1], [json.loads(row.as_py()) for row in table["row"]])

    def _tables(self, *kinds: str) -> Iterator[tuple[str, Any]]:
        with zipfile.ZipFile(self._file) as members:
            for part in self.manifest.parts:
                if part.name.split("/")[0] in kinds:
                    data = _check_unchanged(part, members.read(part.name))
                    yield part.name, pq.read_table(pa.BufferReader(data))

    def _check_manifest(self, text: str, signer: ReceiptSigner) -> Manifest:
        try:
            signed = signer.read(text)
        except NotValid as error:
            raise InvalidRequest(
                f"the manifest of {self._file}: {error}; a backup is restored with the secret of the service that made"
                " it"
            ) from None
        if signed.type != SIGNED_AS or signed.payload.get("format") != FORMAT:
            raise InvalidRequest(
                f"{self._file} is of format {signed.payload.get('format')}; this version reads {FORMAT}"
            )
        try:
            manifest = Manifest.model_validate(signed.payload)
        except ValidationError as error:
            raise InvalidRequest(
                f"{self._file} is no backup of this version: {first_faults(error, 'manifest')}"
            ) from None
        if manifest.schema_revision > HEAD:
            raise InvalidRequest(f"{self._file} was made by a later version: restore it with that one")
        return manifest

    def _check_parts(self, members: zipfile.ZipFile) -> None:
        found = sorted(info.filename for info in members.infolist())
        listed = sorted([MANIFEST, *(part.name for part in self.manifest.parts)])
        if found != listed:
            different = sorted({*found} ^ {*listed}) or ["a part that is there twice"]
            raise InvalidRequest(f"{self._file} is not as it was made: {different[0]} is missing, or was added")
        for part in self.manifest.parts:
            hashed, size = sha256(), 0
            with members.open(part.name) as file:
                while chunk := file.read(CHUNK):
                    hashed.update(chunk)
                    size += len(chunk)
            if (size, hashed.hexdigest()) != (part.size, part.sha256):
                raise InvalidRequest(f"{self._file} is not as it was made: {part.name} was changed")


def is_zip(file: Path) -> bool:
    """Whether a file has this format; a backup of format 1 is a tar file."""
    return zipfile.is_zipfile(file)


def _read_manifest(members: zipfile.ZipFile) -> str:
    try:
        if members.getinfo(MANIFEST).file_size > MAX_MANIFEST_BYTES:
            raise InvalidRequest("the manifest of the backup is too long")
        return members.read(MANIFEST).decode("ascii", "replace")
    except KeyError:
        raise zipfile.BadZipFile("it has no manifest") from None


def _check_unchanged(part: ArchivePart, data: bytes) -> bytes:
    """Return the bytes of a part, unless they changed since all parts were checked."""
    if sha256(data).hexdigest() != part.sha256:
        raise InvalidRequest(f"{part.name} of the backup was changed while it was read")
    return data


def _pictures(table: Any) -> Iterator[ArchivedPicture]:
    for key, data in zip(table["key"], table["data"], strict=True):
        yield ArchivedPicture(str(key), data.as_py())


def _points(columns: dict[str, list[Any]]) -> list[Point]:
    names = [name for name in columns if name not in ("id", "payload")]
    return [
        Point(
            columns["id"][row],
            json.loads(columns["payload"][row]),
            {name: columns[name][row] for name in names if columns[name][row] is not None},
        )
        for row in range(len(columns["id"]))
    ]
