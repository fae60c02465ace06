"""The file of a backup: a tar that is whole or not there, and the pages of points in it.

manifest.json         format, moment, the collection's vectors
points/NUMBER.json    a page of points: id, payload, vectors (float32, little-endian, base64)
pictures/KEY          the pictures of the page before
records/KEY           removals, their log, blocks, API keys, stored decisions
end.json              how many of each there are
"""

import base64
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from schemas.errors import InvalidRequest
from services.memory.engine import Point

FORMAT = 1
MANIFEST, POINTS, PICTURES, RECORDS, END = "manifest.json", "points/", "pictures/", "records/", "end.json"
FLOATS = "<f4"


class Manifest(BaseModel):
    """What a backup is of; `vectors` are the names and sizes."""

    format: int = FORMAT
    begun_at: datetime
    vectors: dict[str, int]


class Contents(BaseModel):
    """How many points, pictures and records there are."""

    points: int = 0
    pictures: int = 0
    records: int = 0


@dataclass(frozen=True)
class Picture:
    """A picture's bytes, and its key in the blob store."""

    key: str
    data: bytes


class Writer:
    """Adds to a new archive, and counts."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._pages = 0
        self.contents = Contents()

    def begin(self, manifest: Manifest) -> None:
        """Say what the archive is of; comes first."""
        self._add(MANIFEST, manifest.model_dump_json().encode())

    def points(self, points: Sequence[Point]) -> None:
        """Add a page of points."""
        self._pages += 1
        self._add(f"{POINTS}{self._pages:08d}.json", json.dumps([_record(point) for point in points]).encode())
        self._count(points=len(points))

    def picture(self, picture: Picture) -> None:
        """Add a picture of the page before."""
        self._add(f"{PICTURES}{picture.key}", picture.data)
        self._count(pictures=1)

    def record(self, key: str, value: Any) -> None:
        """Add a record."""
        self._add(f"{RECORDS}{key}", json.dumps(value).encode())
        self._count(records=1)

    def end(self) -> None:
        """Say that it is whole; comes last."""
        self._add(END, self.contents.model_dump_json().encode())

    def _count(self, **more: int) -> None:
        held = self.contents.model_dump()
        self.contents = Contents(**held | {kind: held[kind] + number for kind, number in more.items()})

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o600
        self._tar.addfile(member, io.BytesIO(data))


@contextmanager
def new_archive(file: Path) -> Iterator[Writer]:
    """An archive that gets its name when it is whole and on the disk; readable by this user alone.

    Raises:
        FileExistsError: the file is there already.
    """
    if file.exists():
        raise FileExistsError(f"{file} is there already: a backup replaces nothing")
    draft = file.with_name(f".{file.name}.part")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as out:
            with tarfile.open(fileobj=out, mode="w") as tar:
                writer = Writer(tar)
                yield writer
                writer.end()
            out.flush()
            os.fsync(out.fileno())
        draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)


class Archive:
    """An archive that is there, and whole.

    Raises:
        InvalidRequest: it is no backup, not whole, or of another version; the message says which.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        held: dict[str, bytes] = {}
        counts = dict.fromkeys((POINTS, PICTURES, RECORDS), 0)
        for name, read in self._members():
            if name in (MANIFEST, END):
                held[name] = read()
            for kind in counts:
                counts[kind] += name.startswith(kind)
        if MANIFEST not in held or END not in held:
            raise InvalidRequest(f"{file} is not whole, or no backup: it lacks its {'end' if held else 'manifest'}")
        try:
            self.manifest = Manifest.model_validate_json(held[MANIFEST])
            self.contents = Contents.model_validate_json(held[END])
        except ValidationError as error:
            raise InvalidRequest(f"{file} is no backup of this service: {error.errors()[0]['msg']}") from None
        if self.manifest.format != FORMAT:
            raise InvalidRequest(f"{file} is of format {self.manifest.format}; this version reads format {FORMAT}")
        if (counts[PICTURES], counts[RECORDS]) != (self.contents.pictures, self.contents.records):
            raise InvalidRequest(f"{file} is damaged: it says that it holds {self.contents}, and does not")

    def records(self) -> Iterator[tuple[str, Any]]:
        """Key and value of every record."""
        for name, read in self._members():
            if name.startswith(RECORDS):
                yield name.removeprefix(RECORDS), json.loads(read())

    def images(self) -> Iterator[list[Point] | Picture]:
        """Every page of points, and after each the pictures of its points."""
        for name, read in self._members():
            if name.startswith(POINTS):
                yield [_point(record) for record in json.loads(read())]
            elif name.startswith(PICTURES):
                yield Picture(name.removeprefix(PICTURES), read())

    def _members(self) -> Iterator[tuple[str, Any]]:
        try:
            with tarfile.open(self._file, mode="r:") as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    if file is not None:
                        yield member.name, file.read
        except tarfile.TarError as error:
            raise InvalidRequest(f"{self._file} is no backup, or damaged: {error}") from None


def _record(point: Point) -> dict[str, Any]:
    packed = {name: base64.b64encode(np.asarray(row, FLOATS).tobytes()).decode() for name, row in point.vectors.items()}
    return {"id": point.id, "payload": point.payload, "vectors": packed}


def _point(record: dict[str, Any]) -> Point:
    vectors = {
        name: np.frombuffer(base64.b64decode(packed), FLOATS).tolist() for name, packed in record["vectors"].items()
    }
    return Point(record["id"], record["payload"], vectors)
