"""Write a backup file. The file gets its name when it is complete."""

import fcntl
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from visual_memory.services.backup.archive_format import (
    MANIFEST,
    PICTURES,
    POINTS,
    RECORDS,
    SIGNED_AS,
    ArchivedPicture,
    ArchivePart,
    Contents,
    Manifest,
)
from visual_memory.services.infrastructure.storage.fsync import sync
from visual_memory.services.receipts.receipt_signature import ReceiptSigner
from visual_memory.services.vector_engines.engine_contract import Point

PICTURE_PART_BYTES = 32 * 2**20
"""A part of pictures ends when it reaches this size, so it may exceed it by one picture."""


@dataclass
class ArchiveWriter:
    """Adds parts to a new archive."""

    _zip: zipfile.ZipFile
    _parts: list[ArchivePart] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Contents.model_fields, 0))
    _pictures: list[ArchivedPicture] = field(default_factory=list)

    def points(self, points: Sequence[Point], vectors: Mapping[str, int]) -> None:
        """Add a page of points.

        Args:
            points: the points.
            vectors: names and sizes of the vectors to include.
        """
        self._write_pictures()
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

    def picture(self, picture: ArchivedPicture) -> None:
        """Add a picture of the preceding points."""
        self._pictures.append(picture)
        if sum(len(each.data) for each in self._pictures) >= PICTURE_PART_BYTES:
            self._write_pictures()

    def rows(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows of a table."""
        self._write_pictures()
        self._add(f"{RECORDS}/{table}", pa.table({"row": [json.dumps(row) for row in rows]}))
        self._counts["records"] += len(rows)

    def end(self, manifest: Manifest, signer: ReceiptSigner) -> Manifest:
        """Write the signed manifest, after everything else; returns it complete."""
        self._write_pictures()
        whole = manifest.model_copy(update={"parts": tuple(self._parts), "contents": Contents(**self._counts)})
        self._zip.writestr(MANIFEST, signer.sign(SIGNED_AS, whole.model_dump(mode="json")))
        return whole

    def _write_pictures(self) -> None:
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
        self._parts.append(ArchivePart(name=name, size=len(data), sha256=sha256(data).hexdigest()))


@contextmanager
def create_archive(file: Path) -> Iterator[ArchiveWriter]:
    """Create an archive, readable by this user alone; it is renamed to `file` when it is complete and durable.

    Raises:
        FileExistsError: the file exists already, or another backup writes it.
    """
    if file.exists() or file.is_symlink():
        raise FileExistsError(f"{file} is there already: a backup replaces nothing")
    temporary = file.with_name(f".{file.name}.part")
    _delete_abandoned(temporary)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as members:
                yield ArchiveWriter(members)
            out.flush()
            os.fsync(out.fileno())
        temporary.rename(file)
        sync(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _delete_abandoned(temporary: Path) -> None:
    """Delete the temporary file of a backup that was killed, without following a link.

    Raises:
        FileExistsError: another backup is writing it.
    """
    try:
        handle = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError:
        temporary.unlink()
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink()
    except BlockingIOError:
        raise FileExistsError(f"another backup writes {temporary} at this moment") from None
    finally:
        os.close(handle)
