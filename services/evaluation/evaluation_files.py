"""Store the files of evaluations: labelled queries as vectors, and reports."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.storage.disk_space import NEW

CHUNK = 500
"""Files whose records are looked up at once."""


class QueryBatch(BaseModel):
    """Labelled pictures of one request; they are classified, and never remembered.

    Attributes:
        ids: n image ids.
        labels: of each.
        vectors: float32 [n, dimension], as bytes row by row.
        thumbnails: a small JPEG of each.
    """

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    ids: list[str]
    labels: list[list[str]]
    vectors: bytes
    thumbnails: list[bytes]

    def rows(self) -> NDArray[np.float32]:
        """The vectors, float32 [n, dimension]."""
        return np.frombuffer(self.vectors, np.float32).reshape(len(self.ids), -1)

    def file_name(self) -> str:
        """The file's name, which is the same if the same ids and labels are sent again."""
        names = QueryBatch(ids=self.ids, labels=self.labels, vectors=b"", thumbnails=[]).model_dump_json()
        return f"{sha256(names.encode()).hexdigest()}.{len(self.ids)}"


class EvaluationFiles:
    """The files of every tenant's evaluations, by the key ``TENANT/EVALUATION/NAME``.

    Args:
        url: where files are stored.
        floor: bytes that must stay free on this machine's disk; see `services.infrastructure.storage.disk_space`.
    """

    def __init__(self, url: str | Path, floor: int = 0) -> None:
        self._blobs = BlobStore(url, floor * NEW)

    def write(self, key: str, data: bytes) -> None:
        """Write a file.

        Raises:
            NotFound: the evaluation was deleted meanwhile.
        """
        self._blobs.write(key, data)

    def read(self, key: str) -> bytes:
        """Read a file.

        Raises:
            NotFound: there is none.
        """
        return self._blobs.read(key)

    def read_queries(self, key: str) -> QueryBatch:
        """Read labelled queries; raises as `read`."""
        return QueryBatch.model_validate_json(self.read(key))

    def delete(self, *keys: str) -> None:
        """Delete files."""
        self._blobs.delete(keys)

    def delete_queries(self, tenant: str, evaluation_id: str) -> None:
        """Delete all labelled queries of an evaluation."""
        self._blobs.delete(self._blobs.list(query_key(tenant, evaluation_id, "")))

    def delete_evaluation(self, tenant: str, evaluation_id: str) -> int:
        """Delete all files of an evaluation, with the temporary files of interrupted writers; returns their number."""
        folder = f"{tenant}/{evaluation_id}"
        temporary = self._blobs.delete_temporary_files(now(), folder)
        return temporary + self._blobs.delete(self._blobs.list(f"{folder}/"))

    def delete_tenant(self, tenant: str) -> None:
        """Delete all files of a tenant's evaluations."""
        self._blobs.delete_temporary_files(now(), tenant)
        self._blobs.delete(self._blobs.list(f"{tenant}/"))

    def delete_temporary_files(self, before: datetime) -> int:
        """Delete temporary files that were written before a moment; returns their number."""
        return self._blobs.delete_temporary_files(before)

    def chunks(self) -> Iterator[list[str]]:
        """The keys of all files, in chunks."""
        for tenant in self._blobs.top_folders():
            keys = self._blobs.list(f"{tenant}/")
            yield from (keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK))

    def delete_older(self, keys: Collection[str], before: datetime) -> int:
        """Delete those of the files that were written before a moment; returns their number."""
        return self._blobs.delete(key for key in keys if self._is_older(key, before))

    def _is_older(self, key: str, before: datetime) -> bool:
        with suppress(NotFound):  # another process deleted it
            return self._blobs.written_at(key) < before
        return False


def report_key(tenant: str, evaluation_id: str, name: str) -> str:
    """The key of a report."""
    return f"{tenant}/{evaluation_id}/{name}"


def query_key(tenant: str, evaluation_id: str, name: str) -> str:
    """The key of labelled queries."""
    return f"{tenant}/{evaluation_id}/queries/{name}"
