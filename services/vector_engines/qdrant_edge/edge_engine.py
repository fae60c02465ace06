"""The contract over Qdrant Edge: the server's engine inside this process, in a folder that it holds alone."""

import fcntl
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import qdrant_edge as edge

from visual_memory.schemas.errors import EncoderMismatch, Unavailable
from visual_memory.services.infrastructure.storage.disk_space import DELETE, FINISH, NEW, REMOVE, translate_full_disk
from visual_memory.services.vector_engines.engine_contract import (
    Answer,
    Compaction,
    Delete,
    Index,
    Insert,
    Payload,
    Point,
    PointFilter,
    Replace,
    Search,
    SetPayload,
    Shape,
    UpdateVectors,
    Vectors,
    Write,
    check_named,
)
from visual_memory.services.vector_engines.qdrant_edge.compaction import Rewriting
from visual_memory.services.vector_engines.qdrant_edge.edge_converters import (
    named_indexes,
    params_of,
    to_edge_filter,
    to_edge_index,
    to_edge_points,
)
from visual_memory.services.vector_engines.qdrant_edge.group_commit import Flushing, GroupCommit
from visual_memory.services.vector_engines.qdrant_edge.index_schedule import IndexSchedule
from visual_memory.services.vector_engines.qdrant_edge.shard_files import Shard, Shards
from visual_memory.services.vector_engines.qdrant_edge.write_tracker import Ids, Writes

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
        floor: bytes that must stay free on its disk, see `services.infrastructure.storage.disk_space`; a full disk
            would end the process. With too few to open the collection every call raises `OutOfSpace`, until there is
            room.

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
        with self._writes.turn, translate_full_disk():
            if self._shards.vectors() is None:
                self._shards.need(NEW)
                self._shards.switch(self._shards.make({vector: size}), {vector: size})
        self.index(indexes)

    def add_vector(self, name: str, size: int) -> None:
        """See `Engine.add_vector`."""
        with self._writes.turn, translate_full_disk():
            held = self._vectors().get(name)
            if held is None:
                self._shards.need(NEW)
                self._shards.add_vector(name, size)
            elif held != size:
                raise EncoderMismatch(f"the collection has vectors {name} of {held} numbers, not of {size}")

    def drop_vector(self, name: str) -> None:
        """See `Engine.drop_vector`."""
        with self._writes.turn, translate_full_disk():
            if {*self._vectors()} == {name}:
                raise ValueError(f"the collection has no vectors but {name}")
            self._shards.need(DELETE)
            self._shards.drop_vector(name)

    def index(self, indexes: Mapping[str, Index]) -> None:
        """See `Engine.index`."""
        with self._writes.turn, self._shards.use() as shard, translate_full_disk():
            self._shards.need(NEW)
            for field, schema in indexes.items():
                shard.engine.update(edge.UpdateOperation.create_field_index(field, to_edge_index(schema)))
        self._commit()

    def write(self, writes: Sequence[Write], read: Sequence[str] = (), urgent: bool = False) -> list[Payload]:
        """See `Engine.write`."""
        with self._writes.turn, self._shards.use() as shard, translate_full_disk():
            for write in writes:
                self._write(shard, write, urgent=urgent)
        self._commit()  # even where nothing was written: what made a condition fail may not be durable yet
        return self.retrieve(read) if read else []

    def retrieve(self, ids: Sequence[str]) -> list[Payload]:
        """See `Engine.retrieve`."""
        with self._shards.use() as shard:
            records = shard.engine.retrieve(list(ids), with_payload=True, with_vector=False)
        return [record.payload or {} for record in records]

    def scroll(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Payload], str | None]:
        """See `Engine.scroll`."""
        request = edge.ScrollRequest(offset=cursor, limit=limit, filter=to_edge_filter(where), with_payload=True)
        with self._shards.use() as shard:
            records, following = shard.engine.scroll(request)
        return [record.payload or {} for record in records], None if following is None else str(following)

    def oldest(self, field: str, where: PointFilter, limit: int) -> list[Payload]:
        """See `Engine.oldest`."""
        request = edge.ScrollRequest(
            limit=limit, filter=to_edge_filter(where), with_payload=True, order_by=edge.OrderBy(field)
        )
        with self._shards.use() as shard:
            records, _ = shard.engine.scroll(request)
        return [record.payload or {} for record in records]

    def export(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Point], str | None]:
        """See `Engine.export`."""
        request = edge.ScrollRequest(
            offset=cursor, limit=limit, filter=to_edge_filter(where), with_payload=True, with_vector=True
        )
        with self._shards.use() as shard:
            records, following = shard.engine.scroll(request)
        points = [Point(str(each.id), each.payload or {}, cast(Any, each.vector or {})) for each in records]
        return points, None if following is None else str(following)

    def count(self, where: PointFilter) -> int:
        """See `Engine.count`."""
        with self._shards.use() as shard:
            return shard.engine.count(edge.CountRequest(exact=True, filter=to_edge_filter(where)))

    def facet(self, field: str, where: PointFilter) -> dict[str, int]:
        """See `Engine.facet`."""
        request = edge.FacetRequest(field, limit=ALL, exact=True, filter=to_edge_filter(where))
        with self._shards.use() as shard:
            return {str(hit.value): hit.count for hit in shard.engine.facet(request).hits}

    def query_batch(self, vectors: Vectors, search: Search) -> list[Answer]:
        """See `Engine.query_batch`."""
        params, where = params_of(search), to_edge_filter(search.where)
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
        except Exception:  # Edge raises nothing more particular
            check_named([search.name], self._vectors())
            raise
        return [Answer.of(((each.score, each.payload or {}) for each in one), search.fields) for one in answers]

    def compact(self) -> Compaction:
        """See `Engine.compact`."""
        self._erase()
        return Compaction(erased=True)

    def recover(self) -> None:
        """See `Engine.recover`: opening the folder has done it."""

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

    def _write(self, shard: Shard, write: Write, *, urgent: bool) -> None:
        """Decide which points are written and how, and write them; nobody else writes meanwhile.

        The log then holds points by their ids: it is applied again after a crash, to segments of which a part may be
        newer than the rest, where a condition could find something else than it did.
        """
        if not _has_vectors_of(write, self._vectors()):
            return
        share = _share_of(write, urgent=urgent)
        self._shards.need(share)
        ids, operation = _decided(shard, write)
        if ids:
            if (size := len(ids) * _size_of(write)) > self._floor * DELETE:  # less is within the floors' own room
                self._shards.need(share, size)
            self._writes.note(ids)
            shard.engine.update(operation)

    def _vectors(self) -> Mapping[str, int]:
        return self._shards.vectors() or {}


def _hold(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Unavailable(f"another process holds {path.parent}; stop it first") from None
    return lock


def _has_vectors_of(write: Write, held: Mapping[str, int]) -> bool:
    """Whether the collection has the vectors that a write gives; the engine would write half of a point, then fail.

    Args:
        write: any.
        held: the names of the collection's vectors with their sizes.

    Raises:
        Unavailable: it has not, and points were to be put with them.
        ValueError: it has some of another size.
    """
    if isinstance(write, Insert | Replace):
        check_named(write.names, held)
    vectors = getattr(write, "vectors", None)
    if vectors is None or vectors.name not in held:
        return vectors is None
    if (size := vectors.rows.shape[1]) != held[vectors.name]:
        raise ValueError(f"the vectors {vectors.name} have {held[vectors.name]} numbers, not {size}")
    return True


def _decided(shard: Shard, write: Write) -> tuple[Ids, edge.UpdateOperation]:
    """The points that a write is about at this moment, and what is done to them."""
    match write:
        case Insert():
            given = [point.id for point in write.points]
            ids = {*given} - _ids(shard.engine.retrieve([*given], False, False))
            return ids, edge.UpdateOperation.upsert_points(to_edge_points(write.points, write.vectors, ids))
        case Replace():
            ids = _meeting(shard, write.where, [point.id for point in write.points])
            return ids, edge.UpdateOperation.upsert_points(to_edge_points(write.points, write.vectors, ids))
        case SetPayload():
            ids = _meeting(shard, write.where)
            return ids, edge.UpdateOperation.set_payload([*ids], write.payload)
        case UpdateVectors():
            ids = _meeting(shard, write.where, write.ids)
            rows = zip(write.ids, write.vectors.rows.tolist(), strict=True)
            vectors = [edge.PointVectors(point, {write.vectors.name: row}) for point, row in rows if point in ids]
            return ids, edge.UpdateOperation.update_vectors(vectors)
        case Delete():
            ids = _meeting(shard, write.where)
            return ids, edge.UpdateOperation.delete_points([*ids])


def _share_of(write: Write, *, urgent: bool) -> float:
    """The part of the floor that must stay free; see `services.infrastructure.storage.disk_space`."""
    match write:
        case Insert() | Replace():
            return NEW
        case SetPayload():
            return REMOVE if urgent else FINISH
        case UpdateVectors():
            return NEW if write.beside else FINISH
        case Delete():
            return DELETE


def _size_of(write: Write) -> int:
    """Bytes that the change of a point may take; with its vector, where that is new."""
    if not isinstance(write, Insert | Replace | UpdateVectors) or write.vectors is None:
        return PER_POINT
    return PER_NEW + COPIES * write.vectors.rows.itemsize * int(write.vectors.rows.shape[1])


def _ids(records: Iterable[edge.Record]) -> Ids:
    return {str(record.id) for record in records}


def _meeting(shard: Shard, where: PointFilter, ids: Sequence[str] | None = None) -> Ids:
    """The points that meet a filter; with `ids`, those of these."""
    among = where if ids is None else replace(where, ids=tuple(ids))
    request = edge.ScrollRequest(limit=ALL, filter=to_edge_filter(among), with_payload=False)
    records, _ = shard.engine.scroll(request)
    return _ids(records)
