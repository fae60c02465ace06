"""Read a backup of format 1: a tar file, which this version does not write.

manifest.json         format, moment, the collection's vectors
points/NUMBER.json    a page of points: id, payload, vectors (float32, little-endian, base64)
pictures/KEY          the pictures of the preceding page
records/KEY           removals, their log, blocks, API keys, stored decisions
end.json              how many of each there are
"""

import base64
import json
import tarfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.validation_faults import first_faults
from visual_memory.services.backup.archive_format import ArchivedPicture, Contents
from visual_memory.services.vector_engines.engine_contract import Point

FORMAT = 1
MANIFEST, POINTS, PICTURES, RECORDS, END = "manifest.json", "points/", "pictures/", "records/", "end.json"
FLOATS = "<f4"


class ManifestV1(BaseModel):
    """What a backup is of; `vectors` are names and sizes."""

    format: int = FORMAT
    begun_at: datetime
    vectors: dict[str, int]


class ArchiveReaderV1:
    """A complete archive of format 1.

    Args:
        file: the backup.

    Raises:
        InvalidRequest: the file is no backup, incomplete, or of another version; the message says which.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        ends: dict[str, bytes] = {}
        counts = dict.fromkeys((POINTS, PICTURES, RECORDS), 0)
        for name, read in self._members():
            if name in (MANIFEST, END):
                ends[name] = read()
            for kind in counts:
                counts[kind] += name.startswith(kind)
        if MANIFEST not in ends or END not in ends:
            raise InvalidRequest(f"{file} is not whole, or no backup: it lacks its {'end' if ends else 'manifest'}")
        try:
            self.manifest = ManifestV1.model_validate_json(ends[MANIFEST])
            self.contents = Contents.model_validate_json(ends[END])
        except ValidationError as error:
            raise InvalidRequest(f"{file} is no backup of this service: {first_faults(error, 'manifest')}") from None
        if self.manifest.format != FORMAT:
            raise InvalidRequest(f"{file} is of format {self.manifest.format}; this version reads format {FORMAT}")
        if (counts[PICTURES], counts[RECORDS]) != (self.contents.pictures, self.contents.records):
            raise InvalidRequest(f"{file} is damaged: it says that it holds {self.contents}, and does not")

    def records(self) -> Iterator[tuple[str, Any]]:
        """Key and value of every record."""
        for name, read in self._members():
            if name.startswith(RECORDS):
                yield name.removeprefix(RECORDS), json.loads(read())

    def images(self) -> Iterator[list[Point] | ArchivedPicture]:
        """Each page of points, followed by its pictures."""
        for name, read in self._members():
            if name.startswith(POINTS):
                yield [_point(record) for record in json.loads(read())]
            elif name.startswith(PICTURES):
                yield ArchivedPicture(name.removeprefix(PICTURES), read())

    def _members(self) -> Iterator[tuple[str, Any]]:
        try:
            with tarfile.open(self._file, mode="r:") as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    if file is not None:
                        yield member.name, file.read
        except tarfile.TarError as error:
            raise InvalidRequest(f"{self._file} is no backup, or damaged: {error}") from None


def _point(record: dict[str, Any]) -> Point:
    vectors = {
        name: np.frombuffer(base64.b64decode(packed), FLOATS).tolist() for name, packed in record["vectors"].items()
    }
    return Point(record["id"], record["payload"], vectors)
