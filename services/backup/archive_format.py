"""The format of a backup: a zip file whose members pyarrow and pandas can read.

points/NUMBER.parquet          points: id, payload (JSON), and a column of vectors for each encoder
pictures/NUMBER.parquet        the pictures of the preceding points: key, bytes
records/TABLE/NUMBER.parquet   rows of a table
manifest.json                  what the backup is of, and the SHA-256 of every member; signed as receipts are
"""

from datetime import datetime
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from visual_memory.services.vector_engines.engine_contract import Point

FORMAT = 2
SIGNED_AS = "visual-memory-backup"
MANIFEST, POINTS, PICTURES, RECORDS = "manifest.json", "points", "pictures", "records"


class ArchivePart(BaseModel):
    """A member of the zip file, with its size and digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    size: int
    sha256: str


class Contents(BaseModel):
    """The numbers of points, pictures and records."""

    points: int = 0
    pictures: int = 0
    records: int = 0


class Manifest(BaseModel):
    """What a backup is of.

    Attributes:
        begun_at: a moment before anything was read.
        vectors: names and sizes of the collection's vectors.
        schema_revision: of the records.
        parts: every member, in the order of the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    begun_at: datetime
    vectors: dict[str, int]
    schema_revision: str
    contents: Contents = Contents()
    parts: tuple[ArchivePart, ...] = ()


class ArchivedPicture(NamedTuple):
    """A picture's key in the picture store, and its bytes."""

    key: str
    data: bytes


class TableRows(NamedTuple):
    """Rows of a table, as JSON values."""

    table: str
    rows: list[dict[str, Any]]


class PointPage(NamedTuple):
    """Points that were exported together; their pictures follow them."""

    points: list[Point]
