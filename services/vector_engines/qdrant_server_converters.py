"""Convert filters, writes, indexes and searches of the contract to models of the Qdrant client."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qdrant_client import models

from visual_memory.schemas.field_types import FieldType
from visual_memory.services.vector_engines.engine_contract import (
    Delete,
    Index,
    Insert,
    NamedVectors,
    Point,
    PointFilter,
    Replace,
    Search,
    SetPayload,
    UpdateVectors,
    Write,
)
from visual_memory.services.vector_engines.hnsw_parameters import EFFORTS
from visual_memory.services.vector_engines.translate_filter import translate_filter


def to_qdrant_index(index: Index) -> Any:
    """Convert a payload index."""
    match index.kind:
        case FieldType.KEYWORD:
            return models.KeywordIndexParams(
                type=models.KeywordIndexType.KEYWORD, is_tenant=index.is_tenant or None, on_disk=index.on_disk
            )
        case FieldType.INTEGER:
            return models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, on_disk=index.on_disk)
        case FieldType.FLOAT:
            return models.FloatIndexParams(type=models.FloatIndexType.FLOAT, on_disk=index.on_disk)
        case FieldType.BOOLEAN:
            return models.BoolIndexParams(type=models.BoolIndexType.BOOL, on_disk=index.on_disk)
        case FieldType.DATETIME:
            return models.DatetimeIndexParams(type=models.DatetimeIndexType.DATETIME, on_disk=index.on_disk)


def to_search_params(search: Search) -> models.SearchParams:
    """The parameters of a search at its effort."""
    effort = EFFORTS.get(search.effort)
    if effort is None:
        return models.SearchParams(exact=True)
    rescored = models.QuantizationSearchParams(rescore=True, oversampling=effort.oversampling(search.k))
    return models.SearchParams(hnsw_ef=effort.ef(far=search.far), quantization=rescored)


def without_missing_points(writes: Sequence[Write], existing: Collection[str]) -> list[Write]:
    """The writes, with vectors of existing points only."""
    left: list[Write] = []
    for write in writes:
        if not isinstance(write, UpdateVectors):
            left.append(write)
        elif rows := [row for row, point in enumerate(write.ids) if point in existing]:
            vectors = NamedVectors(write.vectors.name, write.vectors.rows[rows])
            left.append(replace(write, ids=[write.ids[row] for row in rows], vectors=vectors))
    return left


def to_operation(write: Write) -> models.UpdateOperation:
    """Convert a write to an operation of a batch."""
    match write:
        case Insert():
            return _upsert(write.points, write.vectors, update_mode=models.UpdateMode.INSERT_ONLY)
        case Replace():
            where = to_qdrant_filter(write.where)
            return _upsert(write.points, write.vectors, update_mode=models.UpdateMode.UPDATE_ONLY, update_filter=where)
        case SetPayload():
            where = to_qdrant_filter(write.where)
            return models.SetPayloadOperation(set_payload=models.SetPayload(payload=write.payload, filter=where))
        case UpdateVectors():
            rows = zip(write.ids, write.vectors.rows.tolist(), strict=True)
            points = [models.PointVectors(id=point, vector={write.vectors.name: row}) for point, row in rows]
            update = models.UpdateVectors(points=points, update_filter=to_qdrant_filter(write.where))
            return models.UpdateVectorsOperation(update_vectors=update)
        case Delete():
            return models.DeleteOperation(delete=models.FilterSelector(filter=to_qdrant_filter(write.where)))


def _upsert(points: Sequence[Point], vectors: NamedVectors | None, **how: Any) -> models.UpsertOperation:
    if vectors is None:
        listed = [models.PointStruct(id=each.id, vector=dict(each.vectors), payload=each.payload) for each in points]
        return models.UpsertOperation(upsert=models.PointsList(points=listed, **how))
    batch = models.Batch(
        ids=[point.id for point in points],
        vectors={vectors.name: vectors.rows.tolist()},
        payloads=[point.payload for point in points],
    )
    return models.UpsertOperation(upsert=models.PointsBatch(batch=batch, **how))


def to_qdrant_filter(where: PointFilter) -> models.Filter:
    """Convert a filter."""
    converted: models.Filter = translate_filter(where, _QdrantTerms())
    return converted


class _QdrantTerms:
    """See `services.vector_engines.translate_filter.FilterTerms`."""

    def all_of(self, must: list[Any], must_not: list[Any]) -> models.Filter:
        return models.Filter(must=must, must_not=must_not)

    def one_of(self, conditions: list[Any]) -> models.Filter:
        return models.Filter(should=conditions)

    def equal(self, field: str, value: str | bool) -> models.FieldCondition:
        return models.FieldCondition(key=field, match=models.MatchValue(value=value))

    def equal_any(self, field: str, values: list[str] | list[int]) -> models.FieldCondition:
        return models.FieldCondition(key=field, match=models.MatchAny(any=values))

    def numbers(self, field: str, bounds: Mapping[str, float]) -> models.FieldCondition:
        return models.FieldCondition(key=field, range=models.Range(**bounds))

    def moments(self, field: str, bounds: Mapping[str, str]) -> models.FieldCondition:
        return models.FieldCondition(key=field, range=models.DatetimeRange.model_validate(bounds))

    def is_empty(self, field: str) -> models.IsEmptyCondition:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=field))

    def has_vector(self, name: str) -> models.HasVectorCondition:
        return models.HasVectorCondition(has_vector=name)

    def has_id(self, ids: tuple[str, ...]) -> models.HasIdCondition:
        return models.HasIdCondition(has_id=list(ids))
