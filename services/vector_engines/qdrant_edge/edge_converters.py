"""Convert filters, points, indexes and searches of the contract to objects of Qdrant Edge."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import qdrant_edge as edge

from visual_memory.schemas.field_types import FieldType
from visual_memory.services.vector_engines.engine_contract import Index, NamedVectors, Point, PointFilter, Search
from visual_memory.services.vector_engines.hnsw_parameters import EFFORTS
from visual_memory.services.vector_engines.translate_filter import translate_filter

_PARAMS: Mapping[FieldType, Callable[..., Any]] = {
    FieldType.KEYWORD: edge.KeywordIndexParams,
    FieldType.INTEGER: edge.IntegerIndexParams,
    FieldType.FLOAT: edge.FloatIndexParams,
    FieldType.BOOLEAN: edge.BoolIndexParams,
    FieldType.DATETIME: edge.DatetimeIndexParams,
}


def to_edge_index(index: Index) -> Any:
    """A payload index; those on disk are read through the page cache."""
    tenant = {"is_tenant": True} if index.is_tenant else {}
    return _PARAMS[index.kind](memory=edge.Memory.Cached if index.on_disk else None, **tenant)


def index_types(schema: Mapping[str, Any]) -> dict[str, str]:
    """The types of a shard's payload indexes, in the contract's names."""
    return {field: str(index.data_type).rpartition(".")[2].lower() for field, index in schema.items()}


def to_search_params(search: Search) -> edge.SearchParams:
    """The parameters of a search at its effort."""
    effort = EFFORTS.get(search.effort)
    if effort is None:
        return edge.SearchParams(exact=True)
    rescored = edge.QuantizationSearchParams(rescore=True, oversampling=effort.oversampling(search.k))
    return edge.SearchParams(hnsw_ef=effort.ef(far=search.far), quantization=rescored)


def to_edge_points(points: Sequence[Point], vectors: NamedVectors | None, ids: Collection[str]) -> list[edge.Point]:
    """The points that have one of these ids."""
    if vectors is None:
        named = (dict(point.vectors) for point in points)
    else:
        named = ({vectors.name: memoryview(row)} for row in vectors.rows)  # Edge reads the numbers from the buffer
    pairs = zip(points, named, strict=True)
    return [edge.Point(point.id, vector, point.payload) for point, vector in pairs if point.id in ids]


def to_edge_filter(where: PointFilter) -> edge.Filter:
    """Convert a filter."""
    converted: edge.Filter = translate_filter(where, _EdgeTerms())
    return converted


class _EdgeTerms:
    """See `services.vector_engines.translate_filter.FilterTerms`."""

    def all_of(self, must: list[Any], must_not: list[Any]) -> edge.Filter:
        return edge.Filter(must=must, must_not=must_not)

    def one_of(self, conditions: list[Any]) -> edge.Filter:
        return edge.Filter(should=conditions)

    def equal(self, field: str, value: str | bool) -> edge.FieldCondition:
        # Edge takes a Python bool for the number 0 or 1, which matches no payload
        converted: Any = np.bool_(value) if isinstance(value, bool) else value
        return edge.FieldCondition(field, match=edge.MatchValue(converted))

    def equal_any(self, field: str, values: list[str] | list[int]) -> edge.FieldCondition:
        return edge.FieldCondition(field, match=edge.MatchAny(values))

    def numbers(self, field: str, bounds: Mapping[str, float]) -> edge.FieldCondition:
        return edge.FieldCondition(field, range=edge.RangeFloat(**bounds))

    def moments(self, field: str, bounds: Mapping[str, str]) -> edge.FieldCondition:
        return edge.FieldCondition(field, range=edge.RangeDateTime(**bounds))

    def is_empty(self, field: str) -> edge.IsEmptyCondition:
        return edge.IsEmptyCondition(field)

    def has_vector(self, name: str) -> edge.HasVectorCondition:
        return edge.HasVectorCondition(name)

    def has_id(self, ids: tuple[str, ...]) -> edge.HasIdCondition:
        return edge.HasIdCondition({*ids})
