"""Records that outlive the collection: a restored snapshot of the points must not undo a removal."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from services.memory.blobs import Blobs
from services.memory.space import REMOVE


class Ledger:
    """JSON under keys such as ``removals/default/1``, of letters, digits and ``._=-``: hash what is free text.

    Every method raises `schemas.errors.Unavailable` where the filesystem does not answer.

    Args:
        url: a folder of this machine, or an fsspec URL; not the one of the pictures.
        floor: bytes that must stay free on this machine's disk; see `services.memory.space`.
    """

    def __init__(self, url: str | Path, floor: int = 0) -> None:
        self._blobs = Blobs(url, floor * REMOVE)

    def put(self, key: str, value: Any) -> None:
        """Write a record, or replace it as a whole; durable when it returns.

        Raises:
            OutOfSpace: the disk is full, or too full for this.
        """
        self._blobs.write(key, json.dumps(value, ensure_ascii=False).encode())

    def create(self, key: str, value: Any) -> bool:
        """Write a record that is not there yet; False where it is. Of several who create it at once, one does.

        Raises:
            OutOfSpace: the disk is full.
        """
        return self._blobs.create(key, json.dumps(value, ensure_ascii=False).encode())

    def get(self, key: str) -> Any:
        """A record.

        Raises:
            NotFound: there is none.
        """
        return json.loads(self._blobs.read(key))

    def exists(self, key: str) -> bool:
        """Whether there is such a record."""
        return self._blobs.exists(key)

    def list(self, prefix: str) -> list[str]:
        """The keys that begin with ``prefix``, such as ``removals/default/``; sorted."""
        return self._blobs.list(prefix)

    def delete(self, key: str) -> bool:
        """Delete a record; whether there was one."""
        return self._blobs.delete([key]) == 1

    def delete_drafts(self, before: datetime) -> int:
        """Delete what a kill in the middle of a write left before a moment; returns how much."""
        return self._blobs.delete_drafts(before)
