"""The contract over Qdrant Edge: the server's engine inside this process, in a folder that it holds alone."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import qdrant_edge as edge
from qdrant_client import models

from schemas.errors import Unavailable
from services.memory.embedded.commit import Flushing, GroupCommit
from services.memory.embedded.rewriting import Rewriting
from services.memory.embedded.schedule import IndexSchedule
from services.memory.embedded.shards import Shard, Shards
from services.memory.embedded.words import filter_of, index_of, named_indexes, params_of, points_of
from services.memory.embedded.writes import Ids, Writes
from services.memory.engine import Answer, Compaction, Index, Named, Payload, Search, Shape, Vectors
from services.memory.space import DELETE, FINISH, NEW, REMOVE, full_disk_told

ALL = 2**31 - 1
AT_ONCE = 16
"""Queries in one call of Edge, which lets no other thread go on meanwhile; comparing more at once is hardly quicker."""
PER_POINT = 512
"""Bytes; a mark on each of 20,000 points took 275 a point, a deletion 17."""
PER_NEW = 4096
COPIES = 2
"""A new point with its vector takes so much at most, and its vector twice: in the log and in a segment."""


class EdgeEngine:
    """One collection in a folder of this machine.

    Args:
        folder: created where missing; held by one process at a time.
        floor: bytes that must stay free on its disk, see `services.memory.space`; a full disk would end the process.
            With too few to open the collection every call raises `OutOfSpace`, until there is room.

    Raises:
        Unavailable: another process holds the folder.
    """

    def __init__(self, folder: Path, floor: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._floor = floor
        self._lock = _hold(folder / "lock")
        self._shards = Shards(folder, floor)
        self._ending = threading.Event()
        self._writes = Writes()
        self._flushing = Flushing(self._shards, self._ending)
        self._commit = GroupCommit(self._flushing.sync_log)
        self._rewriting = Rewriting(self._shards, self._writes, self._ending)
        self._erase = GroupCommit(self._rewriting.erase)
        self._schedule = IndexSchedule(self._rewriting.index, self._writes, self._ending)

    def inspect(self) -> Shape | None:
        """See `Engine.inspect`."""
        vectors = self._shards.vectors()
        if vectors is None:
            return None
        with self._shards.use() as shard:
            return Shape(vectors, named_indexes(shard.engine.info().payload_schema))

    def create(self, vector: str, size: int, indexes: Mapping[str, Index]) -> None:
        """See `Engine.create`."""
        with self._writes.turn, full_disk_told():
            if self._shards.vectors() is None:
                self._shards.need(NEW)
                self._shards.switch(self._shards.make({vector: size}), {vector: size})
        self.index(indexes)

    def index(self, indexes: Mapping[str, Index]) -> None:
        """See `Engine.index`."""
        with self._writes.turn, self._shards.use() as shard, full_disk_told():
            self._shards.need(NEW)
            for field, schema in indexes.items():
                shard.engine.update(edge.UpdateOperation.create_field_index(field, index_of(schema)))
        self._commit()

    def insert(self, points: Sequence[models.PointStruct], vectors: Named | None = None) -> None:
        """See `Engine.insert`."""

        def absent(shard: Shard) -> tuple[Ids, edge.UpdateOperation]:
            given = [str(point.id) for point in points]
            ids = {*given} - _ids(shard.engine.retrieve([*given], False, False))
            return ids, edge.UpdateOperation.upsert_points(points_of(points, vectors, ids))

        self._write(absent, NEW, vectors)

    def replace(self, points: Sequence[models.PointStruct], where: models.Filter, vectors: Named | None = None) -> None:
        """See `Engine.replace`."""

        def present(shard: Shard) -> tuple[Ids, edge.UpdateOperation]:
            ids = _meeting(shard, where, [str(point.id) for point in points])
            return ids, edge.UpdateOperation.upsert_points(points_of(points, vectors, ids))

        self._write(present, NEW, vectors)

    def set_payload(self, payload: Payload, where: models.Filter, urgent: bool = False) -> None:
        """See `Engine.set_payload`."""

        def met(shard: Shard) -> tuple[Ids, edge.UpdateOperation]:
            ids = _meeting(shard, where)
            return ids, edge.UpdateOperation.set_payload([*ids], payload)

        self._write(met, REMOVE if urgent else FINISH)

    def update_vectors(self, name: str, ids: Sequence[str], vectors: Vectors, where: models.Filter) -> None:
        """See `Engine.update_vectors`."""

        def met(shard: Shard) -> tuple[Ids, edge.UpdateOperation]:
            there = _meeting(shard, where, ids)
            rows = zip(ids, vectors.tolist(), strict=True)
            given = [edge.PointVectors(point, {name: row}) for point, row in rows if point in there]
            return there, edge.UpdateOperation.update_vectors(given)

        self._write(met, FINISH)

    def delete(self, where: models.Filter) -> None:
        """See `Engine.delete`."""

        def met(shard: Shard) -> tuple[Ids, edge.UpdateOperation]:
            ids = _meeting(shard, where)
            return ids, edge.UpdateOperation.delete_points([*ids])

        self._write(met, DELETE)

    def retrieve(self, ids: Sequence[str]) -> list[Payload]:
        """See `Engine.retrieve`."""
        with self._shards.use() as shard:
            records = shard.engine.retrieve(list(ids), with_payload=True, with_vector=False)
        return [record.payload or {} for record in records]

    def scroll(self, where: models.Filter, limit: int, cursor: str | None) -> tuple[list[Payload], str | None]:
        """See `Engine.scroll`."""
        request = edge.ScrollRequest(offset=cursor, limit=limit, filter=filter_of(where), with_payload=True)
        with self._shards.use() as shard:
            records, following = shard.engine.scroll(request)
        return [record.payload or {} for record in records], None if following is None else str(following)

    def export(
        self, where: models.Filter | None, limit: int, cursor: str | None
    ) -> tuple[list[models.PointStruct], str | None]:
        """See `Engine.export`."""
        condition = None if where is None else filter_of(where)
        request = edge.ScrollRequest(offset=cursor, limit=limit, filter=condition, with_payload=True, with_vector=True)
        with self._shards.use() as shard:
            records, following = shard.engine.scroll(request)
        points = [
            models.PointStruct(id=str(record.id), vector=cast(Any, record.vector or {}), payload=record.payload)
            for record in records
        ]
        return points, None if following is None else str(following)

    def count(self, where: models.Filter) -> int:
        """See `Engine.count`."""
        with self._shards.use() as shard:
            return shard.engine.count(edge.CountRequest(exact=True, filter=filter_of(where)))

    def facet(self, field: str, where: models.Filter) -> dict[str, int]:
        """See `Engine.facet`."""
        request = edge.FacetRequest(field, limit=ALL, exact=True, filter=filter_of(where))
        with self._shards.use() as shard:
            return {str(hit.value): hit.count for hit in shard.engine.facet(request).hits}

    def query_batch(self, vectors: Vectors, search: Search) -> list[Answer]:
        """See `Engine.query_batch`."""
        params, where = params_of(search), filter_of(search.where)
        requests = [
            edge.QueryRequest(
                limit=search.k,
                query=edge.Query.Nearest(row, using=search.name),
                filter=where,
                params=params,
                with_payload=list(search.fields),
            )
            for row in vectors.tolist()
        ]
        with self._shards.use() as shard:
            answers = [
                answer
                for start in range(0, len(requests), AT_ONCE)
                for answer in shard.engine.query_batch(edge.QueryBatchRequest(requests[start : start + AT_ONCE]))
            ]
        return [Answer.of(((each.score, each.payload or {}) for each in one), search.fields) for one in answers]

    def compact(self) -> Compaction:
        """See `Engine.compact`."""
        self._erase()
        return Compaction(erased=True)

    def ping(self) -> None:
        """See `Engine.ping`."""
        if self._shards.vectors() is not None:
            with self._shards.use() as shard:
                shard.engine.info()

    def close(self) -> None:
        """See `Engine.close`."""
        self._ending.set()
        self._flushing.join()
        self._schedule.join()
        self._shards.close()
        os.close(self._lock)

    def _write(
        self, decide: Callable[[Shard], tuple[Ids, edge.UpdateOperation]], share: float, vectors: Named | None = None
    ) -> None:
        """Decide which points are written and how, and write them, while nobody else does.

        The log then holds points by their ids: it is applied again after a crash, to segments of which a part may be
        newer than the rest, where a condition could find something else than it did.
        """
        with self._writes.turn, self._shards.use() as shard, full_disk_told():
            self._shards.need(share)
            ids, operation = decide(shard)
            if ids:
                if (size := len(ids) * _size_of(vectors)) > self._floor * DELETE:  # less is within the floors' own room
                    self._shards.need(share, size)
                self._writes.note(ids)
                shard.engine.update(operation)
        self._commit()  # even without a write: what made the condition fail may not be durable yet


def _hold(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Unavailable(f"another process holds {path.parent}; stop it first") from None
    return lock


def _size_of(vectors: Named | None) -> int:
    """Bytes that the change of a point may take; with its vector, where it is new."""
    return PER_POINT if vectors is None else PER_NEW + COPIES * vectors.rows.itemsize * vectors.rows.shape[1]


def _ids(records: Iterable[edge.Record]) -> Ids:
    return {str(record.id) for record in records}


def _meeting(shard: Shard, where: models.Filter, ids: Sequence[str] | None = None) -> Ids:
    """The points that meet a filter; with `ids`, those of these."""
    among = edge.Filter(must=[edge.HasIdCondition({*ids}), filter_of(where)]) if ids is not None else filter_of(where)
    records, _ = shard.engine.scroll(edge.ScrollRequest(limit=ALL, filter=among, with_payload=False))
    return _ids(records)
