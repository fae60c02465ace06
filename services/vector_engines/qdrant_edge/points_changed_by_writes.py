"""Resolve the points that a write changes, and the disk space that it needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import qdrant_edge as edge

from visual_memory.services.infrastructure.storage.disk_space import DELETE, FINISH, NEW, REMOVE
from visual_memory.services.vector_engines.engine_contract import (
    Delete,
    Insert,
    PointFilter,
    Replace,
    SetPayload,
    UpdateVectors,
    Write,
    check_vector_names,
)
from visual_memory.services.vector_engines.qdrant_edge.edge_converters import to_edge_filter, to_edge_points
from visual_memory.services.vector_engines.qdrant_edge.exclusive_writes import Ids
from visual_memory.services.vector_engines.qdrant_edge.shard_files import Shard

ALL = 2**31 - 1
PER_POINT = 512
"""Bytes that a change of a point may take; marking 20,000 points took 275 each, deleting them 17."""
PER_NEW = 4096
COPIES = 2
"""A new point takes at most `PER_NEW` bytes, and its vector twice: in the log and in a segment."""


def has_vectors_of(write: Write, stored: Mapping[str, int]) -> bool:
    """Whether the collection has the vectors of a write; else the engine would write half of a point, then fail.

    Args:
        write: any write.
        stored: names and sizes of the collection's vectors.

    Raises:
        Unavailable: it does not have them, and points are inserted or replaced with them.
        ValueError: its vectors have another size.
    """
    if isinstance(write, Insert | Replace):
        check_vector_names(write.names, stored)
    vectors = getattr(write, "vectors", None)
    if vectors is None or vectors.name not in stored:
        return vectors is None
    if (size := vectors.rows.shape[1]) != stored[vectors.name]:
        raise ValueError(f"the vectors {vectors.name} have {stored[vectors.name]} numbers, not {size}")
    return True


def resolve(shard: Shard, write: Write) -> tuple[Ids, edge.UpdateOperation]:
    """Return the ids of the points that a write changes now, and the operation on them."""
    match write:
        case Insert():
            all_ids = [point.id for point in write.points]
            ids = {*all_ids} - _ids(shard.engine.retrieve([*all_ids], False, False))
            return ids, edge.UpdateOperation.upsert_points(to_edge_points(write.points, write.vectors, ids))
        case Replace():
            ids = _matching(shard, write.where, [point.id for point in write.points])
            return ids, edge.UpdateOperation.upsert_points(to_edge_points(write.points, write.vectors, ids))
        case SetPayload():
            ids = _matching(shard, write.where)
            return ids, edge.UpdateOperation.set_payload([*ids], write.payload)
        case UpdateVectors():
            ids = _matching(shard, write.where, write.ids)
            rows = zip(write.ids, write.vectors.rows.tolist(), strict=True)
            vectors = [edge.PointVectors(point, {write.vectors.name: row}) for point, row in rows if point in ids]
            return ids, edge.UpdateOperation.update_vectors(vectors)
        case Delete():
            ids = _matching(shard, write.where)
            return ids, edge.UpdateOperation.delete_points([*ids])


def floor_share(write: Write, *, urgent: bool) -> float:
    """The share of the floor that must stay free; see `services.infrastructure.storage.disk_space`."""
    match write:
        case Insert() | Replace():
            return NEW
        case SetPayload():
            return REMOVE if urgent else FINISH
        case UpdateVectors():
            return NEW if write.additional else FINISH
        case Delete():
            return DELETE


def bytes_per_point(write: Write) -> int:
    """Bytes that a write may take for each point, with its vector if the write has one."""
    if not isinstance(write, Insert | Replace | UpdateVectors) or write.vectors is None:
        return PER_POINT
    return PER_NEW + COPIES * write.vectors.rows.itemsize * int(write.vectors.rows.shape[1])


def _ids(records: Iterable[edge.Record]) -> Ids:
    return {str(record.id) for record in records}


def _matching(shard: Shard, where: PointFilter, ids: Sequence[str] | None = None) -> Ids:
    """The points that meet a filter, among `ids` if given."""
    among = where if ids is None else replace(where, ids=tuple(ids))
    request = edge.ScrollRequest(limit=ALL, filter=to_edge_filter(among), with_payload=False)
    records, _ = shard.engine.scroll(request)
    return _ids(records)
