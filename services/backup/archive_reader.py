"""The file of a backup: a zip that is whole or not there, of parts that pyarrow and pandas read.

points/NUMBER.parquet          points: id, payload (JSON), and a column of vectors for each encoder
pictures/NUMBER.parquet        pictures of the points before: key, bytes
records/TABLE/NUMBER.parquet   rows of a table
manifest.json                  what it is of, and the SHA-256 of every part; signed, as receipts are
"""

import fcntl
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.infrastructure.records.upgrade_schema import HEAD
from visual_memory.services.infrastructure.storage.fsync import sync
from visual_memory.services.receipts.receipt_signature import NotValid, ReceiptSigner, digest
from visual_memory.services.vector_engines.engine_contract import Point

FORMAT = 2
SIGNED_AS = "visual-memory-backup"
MANIFEST, POINTS, PICTURES, RECORDS = "manifest.json", "points", "pictures", "records"
PART_BYTES = 32 * 2**20
"""A part of pictures is ended when it has so many bytes; one picture more may be in it."""
CHUNK = 2**20
MAX_MANIFEST = 64 * 2**20
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError)
"""What `zipfile` raises of a file that was changed."""


class Part(BaseModel):
    """A member of the zip, and what it must be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    size: int
    sha256: str


class Contents(BaseModel):
    """How many points, pictures and records there are."""

    points: int = 0
    pictures: int = 0
    records: int = 0


class Manifest(BaseModel):
    """What a backup is of.

    Attributes:
        begun_at: a moment before anything was read.
        vectors: of the collection: their names and sizes.
        schema_revision: of the records.
        parts: every part, in the order of the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    begun_at: datetime
    vectors: dict[str, int]
    schema_revision: str
    contents: Contents = Contents()
    parts: tuple[Part, ...] = ()


class Picture(NamedTuple):
    """A picture's bytes, and its key in the picture store."""

    key: str
    data: bytes


class Rows(NamedTuple):
    """Rows of a table, as JSON has them."""

    table: str
    rows: list[dict[str, Any]]


class Page(NamedTuple):
    """Points that lie together."""

    points: list[Point]


@dataclass
class ArchiveWriter:
    """Adds parts to a new archive, and counts."""

    _zip: zipfile.ZipFile
    _parts: list[Part] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Contents.model_fields, 0))
    _pictures: list[Picture] = field(default_factory=list)

    def points(self, points: Sequence[Point], vectors: Mapping[str, int]) -> None:
        """Add a page of points.

        Args:
            points: some.
            vectors: names and sizes of their vectors; others are left out.
        """
        self._end_pictures()
        columns: dict[str, Any] = {
            "id": [point.id for point in points],
            "payload": [json.dumps(point.payload) for point in points],
        }
        for name, size in vectors.items():
            rows = [point.vectors.get(name) for point in points]
            floats = [None if row is None else np.asarray(row, np.float32) for row in rows]
            columns[name] = pa.array(floats, pa.list_(pa.float32(), size))
        self._add(POINTS, pa.table(columns))
        self._counts["points"] += len(points)

    def picture(self, picture: Picture) -> None:
        """Add a picture of the points before."""
        self._pictures.append(picture)
        if sum(len(each.data) for each in self._pictures) >= PART_BYTES:
            self._end_pictures()

    def rows(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows of a table."""
        self._end_pictures()
        self._add(f"{RECORDS}/{table}", pa.table({"row": [json.dumps(row) for row in rows]}))
        self._counts["records"] += len(rows)

    def end(self, manifest: Manifest, signer: ReceiptSigner) -> Manifest:
        """Sign what is there; comes last."""
        self._end_pictures()
        whole = manifest.model_copy(update={"parts": tuple(self._parts), "contents": Contents(**self._counts)})
        self._zip.writestr(MANIFEST, signer.sign(SIGNED_AS, whole.model_dump(mode="json")))
        return whole

    def _end_pictures(self) -> None:
        if self._pictures:
            keys, data = zip(*self._pictures, strict=True)
            self._add(PICTURES, pa.table({"key": pa.array(keys), "data": pa.array(data, pa.large_binary())}))
            self._counts["pictures"] += len(keys)
            self._pictures.clear()

    def _add(self, kind: str, table: pa.Table) -> None:
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="none" if kind == PICTURES else "zstd")
        data = sink.getbuffer()
        name = f"{kind}/{len(self._parts) + 1:08d}.parquet"
        self._zip.writestr(name, data)
        self._parts.append(Part(name=name, size=len(data), sha256=sha256(data).hexdigest()))


@contextmanager
def create_archive(file: Path) -> Iterator[ArchiveWriter]:
    """An archive that gets its name when it is whole and on the disk; readable by this user alone.

    Raises:
        FileExistsError: the file is there already, or another backup writes it.
    """
    if file.exists() or file.is_symlink():
        raise FileExistsError(f"{file} is there already: a backup replaces nothing")
    draft = file.with_name(f".{file.name}.part")
    _take_away(draft)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as members:
                yield ArchiveWriter(members)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(file)
        sync(file.parent)
    finally:
        draft.unlink(missing_ok=True)


def _take_away(draft: Path) -> None:
    """Delete what a backup left that was killed; a link is not followed.

    Raises:
        FileExistsError: a backup is writing it.
    """
    try:
        handle = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError:
        draft.unlink()
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.unlink()
    except BlockingIOError:
        raise FileExistsError(f"another backup writes {draft} at this moment") from None
    finally:
        os.close(handle)


class Archive:
    """An archive that is there, whole, and just as it was made: every part was held against the signed manifest.

    Args:
        file: the backup.
        signer: of the service that made it.

    Raises:
        InvalidRequest: it is no backup, not whole, changed, of another version, or signed by another; the message says
            which.
    """

    def __init__(self, file: Path, signer: ReceiptSigner) -> None:
        self._file = file
        try:
            with zipfile.ZipFile(file) as members:
                text = _manifest_of(members)
                self.manifest = self._checked(text, signer)
                self._check_parts(members)
        except DAMAGED as error:
            raise InvalidRequest(f"{file} is no backup, or damaged: {error}") from None
        self.digest = digest(text)

    def images(self) -> Iterator[Page | Picture]:
        """Each page of points, and after it its pictures."""
        for name, table in self._tables(POINTS, PICTURES):
            if name.startswith(POINTS):
                yield Page(_points(table.to_pydict()))
            else:
                yield from _pictures(table)

    def rows(self) -> Iterator[Rows]:
        """Rows of tables, each table after those that it refers to."""
        for name, table in self._tables(RECORDS):
            yield Rows(name.split("/")[1], [json.loads(row.as_py()) for row in table["row"]])

    def _tables(self, *kinds: str) -> Iterator[tuple[str, Any]]:
        with zipfile.ZipFile(self._file) as members:
            for part in self.manifest.parts:
                if part.name.split("/")[0] in kinds:
                    yield part.name, pq.read_table(pa.BufferReader(_same(part, members.read(part.name))))

    def _checked(self, text: str, signer: ReceiptSigner) -> Manifest:
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
            raise InvalidRequest(f"{self._file} is no backup of this version: {error.errors()[0]['msg']}") from None
        if manifest.schema_revision > HEAD:
            raise InvalidRequest(f"{self._file} was made by a later version: restore it with that one")
        return manifest

    def _check_parts(self, members: zipfile.ZipFile) -> None:
        there = sorted(info.filename for info in members.infolist())
        listed = sorted([MANIFEST, *(part.name for part in self.manifest.parts)])
        if there != listed:
            odd = sorted({*there} ^ {*listed}) or ["a part that is there twice"]
            raise InvalidRequest(f"{self._file} is not as it was made: {odd[0]} is missing, or was added")
        for part in self.manifest.parts:
            found, size = sha256(), 0
            with members.open(part.name) as file:
                while chunk := file.read(CHUNK):
                    found.update(chunk)
                    size += len(chunk)
            if (size, found.hexdigest()) != (part.size, part.sha256):
                raise InvalidRequest(f"{self._file} is not as it was made: {part.name} was changed")


def is_zip(file: Path) -> bool:
    """Whether a file is of this format, and not of the first one, which was a tar."""
    return zipfile.is_zipfile(file)


def _manifest_of(members: zipfile.ZipFile) -> str:
    try:
        if members.getinfo(MANIFEST).file_size > MAX_MANIFEST:
            raise InvalidRequest("the manifest of the backup is too long")
        return members.read(MANIFEST).decode("ascii", "replace")
    except KeyError:
        raise zipfile.BadZipFile("it has no manifest") from None


def _same(part: Part, data: bytes) -> bytes:
    """The bytes of a part, which may have been changed since all were checked."""
    if sha256(data).hexdigest() != part.sha256:
        raise InvalidRequest(f"{part.name} of the backup was changed while it was read")
    return data


def _pictures(table: Any) -> Iterator[Picture]:
    for key, data in zip(table["key"], table["data"], strict=True):
        yield Picture(str(key), data.as_py())


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
