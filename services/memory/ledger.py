"""Records that outlive the collection: a restored snapshot of the points must not undo a removal."""

import json
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from services.memory.blobs import Blobs
from services.memory.space import REMOVE

AT_ONCE = 256


class Ledger:
    """JSON under keys such as ``removals/default/1``, of letters, digits and ``._=-``: hash what is free text.

    Every method raises `schemas.errors.Unavailable` where the filesystem does not answer.

    Args:
        url: a folder of this machine, or an fsspec URL; not the one of the pictures.
        floor: bytes that must stay free on this machine's disk; see `services.memory.space`.
        share: the part of it that must stay free when this writes.
    """

    def __init__(self, url: str | Path, floor: int = 0, share: float = REMOVE) -> None:
        self._blobs = Blobs(url, floor * share)

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

    def get_some(self, keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Key and record of those that are there, in the order of the keys."""
        for key, data in self.read_some(keys):
            yield key, json.loads(data)

    def mentioning(self, prefix: str, words: Iterable[str]) -> Iterator[str]:
        """The keys that begin with `prefix` whose records have one of some words as a string of its own, anywhere.

        Args:
            prefix: as in `list`.
            words: what JSON writes as it is, such as image ids.
        """
        wanted = {word.encode() for word in words}
        for key, data in self.read_some(self.list(prefix)):
            if not wanted.isdisjoint(data.split(b'"')):
                yield key

    def read_some(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """The same as JSON that is not parsed yet, for whoever goes on where one is damaged."""
        given = list(keys)
        for start in range(0, len(given), AT_ONCE):
            batch = given[start : start + AT_ONCE]
            found = self._blobs.read_some(batch)
            yield from ((key, found[key]) for key in batch if key in found)

    def exists(self, key: str) -> bool:
        """Whether there is such a record."""
        return self._blobs.exists(key)

    def existing(self, keys: Collection[str]) -> set[str]:
        """Those of some keys under which there are records."""
        return self._blobs.existing(keys)

    def list(self, prefix: str) -> list[str]:
        """The keys that begin with ``prefix``, such as ``removals/default/``; sorted."""
        return self._blobs.list(prefix)

    def sizes(self, prefix: str) -> dict[str, int]:
        """The bytes of the records whose keys begin with `prefix`, as in `list`."""
        return self._blobs.sizes(prefix)

    def delete(self, key: str) -> bool:
        """Delete a record; whether there was one."""
        return self._blobs.delete([key]) == 1

    def delete_drafts(self, before: datetime) -> int:
        """Delete what a kill in the middle of a write left before a moment; returns how much."""
        return self._blobs.delete_drafts(before)
