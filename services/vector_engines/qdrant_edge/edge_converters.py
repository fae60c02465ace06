"""What the contract says, as Qdrant Edge's objects."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import qdrant_edge as edge

from visual_memory.schemas.field_types import FieldType
from visual_memory.services.vector_engines.engine_contract import Index, Named, Point, PointFilter, Search
from visual_memory.services.vector_engines.hnsw_parameters import REACH
from visual_memory.services.vector_engines.translate_filter import translate_filter

_PARAMS: Mapping[FieldType, Callable[..., Any]] = {
    FieldType.KEYWORD: edge.KeywordIndexParams,
    FieldType.INTEGER: edge.IntegerIndexParams,
    FieldType.FLOAT: edge.FloatIndexParams,
    FieldType.BOOLEAN: edge.BoolIndexParams,
    FieldType.DATETIME: edge.DatetimeIndexParams,
}


def to_edge_index(index: Index) -> Any:
    """A payload index; what is to be on the disk is read through the system's cache."""
    tenant = {"is_tenant": True} if index.is_tenant else {}
    return _PARAMS[index.kind](memory=edge.Memory.Cached if index.on_disk else None, **tenant)


def named_indexes(schema: Mapping[str, Any]) -> dict[str, str]:
    """The types of a shard's payload indexes, as the contract names them."""
    return {field: str(index.data_type).rpartition(".")[2].lower() for field, index in schema.items()}


def params_of(search: Search) -> edge.SearchParams:
    """How far a search looks."""
    reach = REACH.get(search.effort)
    if reach is None:
        return edge.SearchParams(exact=True)
    compared = edge.QuantizationSearchParams(rescore=True, oversampling=reach.oversampling(search.k))
    return edge.SearchParams(hnsw_ef=reach.ef(far=search.far), quantization=compared)


def to_edge_points(points: Sequence[Point], vectors: Named | None, ids: Collection[str]) -> list[edge.Point]:
    """Those points that have one of these ids."""
    if vectors is None:
        held = (dict(point.vectors) for point in points)
    else:
        held = ({vectors.name: memoryview(row)} for row in vectors.rows)  # Edge reads each number out of it
    given = zip(points, held, strict=True)
    return [edge.Point(point.id, vector, point.payload) for point, vector in given if point.id in ids]


def to_edge_filter(where: PointFilter) -> edge.Filter:
    """The same filter as Edge's."""
    made: edge.Filter = translate_filter(where, _EdgeTerms())
    return made


class _EdgeTerms:
    """See `services.vector_engines.translate_filter.FilterTerms`."""

    def all_of(self, must: list[Any], must_not: list[Any]) -> edge.Filter:
        return edge.Filter(must=must, must_not=must_not)

    def one_of(self, conditions: list[Any]) -> edge.Filter:
        return edge.Filter(should=conditions)

    def equal(self, field: str, value: str | bool) -> edge.FieldCondition:
        # a Python bool would be taken for the number 0 or 1, and match no payload
        given: Any = np.bool_(value) if isinstance(value, bool) else value
        return edge.FieldCondition(field, match=edge.MatchValue(given))

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
