"""The engine contract over Qdrant Edge: the server's engine in this process, over a folder that it locks."""

import fcntl
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import qdrant_edge as edge

from visual_memory.schemas.errors import EncoderMismatch, Unavailable
from visual_memory.services.infrastructure.storage.disk_space import DELETE, NEW, translate_full_disk
from visual_memory.services.vector_engines.engine_contract import (
    Answer,
    Compaction,
    Index,
    Order,
    Payload,
    Point,
    PointFilter,
    Position,
    Search,
    Shape,
    Vectors,
    Write,
    check_vector_names,
)
from visual_memory.services.vector_engines.ordered_pages import Placed, moment_of, ordered_page
from visual_memory.services.vector_engines.qdrant_edge.compaction import Compactor
from visual_memory.services.vector_engines.qdrant_edge.edge_converters import (
    index_types,
    to_edge_filter,
    to_edge_index,
    to_search_params,
)
from visual_memory.services.vector_engines.qdrant_edge.exclusive_writes import WriteTracker
from visual_memory.services.vector_engines.qdrant_edge.group_commit import GroupCommit
from visual_memory.services.vector_engines.qdrant_edge.index_schedule import IndexSchedule
from visual_memory.services.vector_engines.qdrant_edge.points_changed_by_writes import (
    bytes_per_point,
    floor_share,
    has_vectors_of,
    resolve,
)
from visual_memory.services.vector_engines.qdrant_edge.segment_flusher import SegmentFlusher
from visual_memory.services.vector_engines.qdrant_edge.shard_files import Shard, ShardFiles

ALL = 2**31 - 1
AT_ONCE = 16
"""Queries in one call of Edge, which blocks all other threads meanwhile; larger calls are hardly faster."""


class EdgeEngine:
    """One collection in a local folder.

    Args:
        folder: created if it is missing; only one process at a time may open it.
        floor: bytes that must stay free on its disk, see `services.infrastructure.storage.disk_space`; a full disk
            kills the process. If there are too few to open the collection, every call raises `OutOfSpace` until
            there are enough.

    Raises:
        Unavailable: another process has opened the folder.
    """

    def __init__(self, folder: Path, floor: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._floor = floor
        self._lock = _lock(folder / "lock")
        self._shards = ShardFiles(folder, floor)
        self._ending = threading.Event()
        self._writes = WriteTracker()
        self._flusher = SegmentFlusher(self._shards, self._ending)
        self._commit = GroupCommit(self._flusher.sync_log)
        self._compactor = Compactor(self._shards, self._writes, self._ending)
        self._erase = GroupCommit(self._compactor.erase)
        self._schedule = IndexSchedule(self._compactor.index, self._writes, self._ending)

    def inspect(self) -> Shape | None:
        """See `Engine.inspect`."""
        vectors = self._shards.vectors()
        if vectors is None:
            return None
        with self._shards.use() as shard:
            return Shape(vectors, index_types(shard.engine.info().payload_schema))

    def create(self, vector: str, size: int, indexes: Mapping[str, Index]) -> None:
        """See `Engine.create`."""
        with self._writes.lock, translate_full_disk():
            if self._shards.vectors() is None:
                self._shards.require_space(NEW)
                self._shards.switch(self._shards.make({vector: size}), {vector: size})
        self.index(indexes)

    def add_vector(self, name: str, size: int) -> None:
        """See `Engine.add_vector`."""
        with self._writes.lock, translate_full_disk():
            existing = self._vectors().get(name)
            if existing is None:
                self._shards.require_space(NEW)
                self._shards.add_vector(name, size)
            elif existing != size:
                raise EncoderMismatch(f"the collection has vectors {name} of {existing} numbers, not of {size}")

    def drop_vector(self, name: str) -> None:
        """See `Engine.drop_vector`."""
        with self._writes.lock, translate_full_disk():
            if {*self._vectors()} == {name}:
                raise ValueError(f"the collection has no vectors but {name}")
            self._shards.require_space(DELETE)
            self._shards.drop_vector(name)

    def index(self, indexes: Mapping[str, Index]) -> None:
        """See `Engine.index`."""
        with self._writes.lock, self._shards.use() as shard, translate_full_disk():
            self._shards.require_space(NEW)
            for field, schema in indexes.items():
                shard.engine.update(edge.UpdateOperation.create_field_index(field, to_edge_index(schema)))
        self._commit()

    def write(self, writes: Sequence[Write], read: Sequence[str] = (), urgent: bool = False) -> list[Payload]:
        """See `Engine.write`."""
        with self._writes.lock, self._shards.use() as shard, translate_full_disk():
            for write in writes:
                self._write(shard, write, urgent=urgent)
        self._commit()  # also if nothing was written: the write that made a condition fail may not be durable yet
        return self.retrieve(read) if read else []

    def retrieve(self, ids: Sequence[str]) -> list[Payload]:
        """See `Engine.retrieve`."""
        with self._shards.use() as shard:
            records = shard.engine.retrieve(list(ids), with_payload=True, with_vector=False)
        return [record.payload or {} for record in records]

    def scroll(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Payload], str | None]:
        """See `Engine.scroll`."""
        records, following = self._scroll(where, limit, offset=cursor)
        return [record.payload or {} for record in records], None if following is None else str(following)

    def scroll_ordered(
        self, where: PointFilter, order: Order, limit: int, start: Position | None = None
    ) -> tuple[list[Payload], Position | None]:
        """See `Engine.scroll_ordered`."""
        return ordered_page(self, where, order, limit, start)

    def read_by_id(self, where: PointFilter, limit: int, first: str | None) -> list[tuple[str, Payload]]:
        """See `OrderedReads.read_by_id`."""
        records, _ = self._scroll(where, limit, offset=first)
        return [(str(record.id), record.payload or {}) for record in records]

    def read_by_moment(self, where: PointFilter, order: Order, limit: int, first: datetime | None) -> list[Placed]:
        """See `OrderedReads.read_by_moment`."""
        direction = edge.Direction.Desc if order.descending else edge.Direction.Asc
        by = edge.OrderBy(order.field, direction=direction, start_from=None if first is None else first.isoformat())
        records, _ = self._scroll(where, limit, order_by=by)
        return [Placed(moment_of(cast(int, each.order_value)), str(each.id), each.payload or {}) for each in records]

    def export(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Point], str | None]:
        """See `Engine.export`."""
        records, following = self._scroll(where, limit, offset=cursor, with_vector=True)
        points = [Point(str(each.id), each.payload or {}, cast(Any, each.vector or {})) for each in records]
        return points, None if following is None else str(following)

    def _scroll(self, where: PointFilter, limit: int, **how: Any) -> tuple[list[edge.Record], Any]:
        request = edge.ScrollRequest(limit=limit, filter=to_edge_filter(where), with_payload=True, **how)
        with self._shards.use() as shard:
            return shard.engine.scroll(request)

    def count(self, where: PointFilter) -> int:
        """See `Engine.count`."""
        with self._shards.use() as shard:
            return shard.engine.count(edge.CountRequest(exact=True, filter=to_edge_filter(where)))

    def estimate(self, where: PointFilter) -> int:
        """See `Engine.estimate`."""
        with self._shards.use() as shard:
            return shard.engine.count(edge.CountRequest(exact=False, filter=to_edge_filter(where)))

    def facet(self, field: str, where: PointFilter) -> dict[str, int]:
        """See `Engine.facet`."""
        request = edge.FacetRequest(field, limit=ALL, exact=True, filter=to_edge_filter(where))
        with self._shards.use() as shard:
            return {str(hit.value): hit.count for hit in shard.engine.facet(request).hits}

    def query_batch(self, vectors: Vectors, search: Search) -> list[Answer]:
        """See `Engine.query_batch`."""
        params, where = to_search_params(search), to_edge_filter(search.where)
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
        try:
            with self._shards.use() as shard:
                answers = [
                    answer
                    for start in range(0, len(requests), AT_ONCE)
                    for answer in shard.engine.query_batch(edge.QueryBatchRequest(requests[start : start + AT_ONCE]))
                ]
        except Exception:  # Edge raises nothing more specific
            check_vector_names([search.name], self._vectors())
            raise
        return [Answer.of(((each.score, each.payload or {}) for each in one), search.fields) for one in answers]

    def compact(self) -> Compaction:
        """See `Engine.compact`."""
        self._erase()
        return Compaction(erased=True)

    def recover(self) -> None:
        """See `Engine.recover`: opening the folder does it."""

    def ping(self) -> None:
        """See `Engine.ping`."""
        if self._shards.vectors() is not None:
            with self._shards.use() as shard:
                shard.engine.info()

    def close(self) -> None:
        """See `Engine.close`."""
        self._ending.set()
        self._flusher.join()
        self._schedule.join()
        self._shards.close()
        os.close(self._lock)

    def _write(self, shard: Shard, write: Write, *, urgent: bool) -> None:
        """Find the points that a write changes, and write them; the caller has the write lock.

        The log then names points by id. After a crash it is replayed over segments of different ages, where a filter
        could match other points than it did.
        """
        if not has_vectors_of(write, self._vectors()):
            return
        share = floor_share(write, urgent=urgent)
        self._shards.require_space(share)
        ids, operation = resolve(shard, write)
        if ids:
            size = len(ids) * bytes_per_point(write)
            if size > self._floor * DELETE:  # smaller writes fit between two floors
                self._shards.require_space(share, size)
            self._writes.add(ids)
            shard.engine.update(operation)

    def _vectors(self) -> Mapping[str, int]:
        return self._shards.vectors() or {}


def _lock(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Unavailable(f"another process holds {path.parent}; stop it first") from None
    return lock
