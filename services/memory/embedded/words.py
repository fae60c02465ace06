"""What the contract says, in Qdrant Edge's words."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from services.memory.engine import Index, Named, Search
from services.memory.tuning import REACH

_INDEXES: Mapping[str, edge.PayloadSchemaType] = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "bool": edge.PayloadSchemaType.Bool,
    "datetime": edge.PayloadSchemaType.Datetime,
}

_PARAMS: Mapping[type, Callable[..., Any]] = {
    models.KeywordIndexParams: edge.KeywordIndexParams,
    models.IntegerIndexParams: edge.IntegerIndexParams,
    models.FloatIndexParams: edge.FloatIndexParams,
    models.BoolIndexParams: edge.BoolIndexParams,
    models.DatetimeIndexParams: edge.DatetimeIndexParams,
}


def index_of(schema: Index) -> Any:
    """A payload index; what is to be on the disk is read through the system's cache."""
    if isinstance(schema, models.PayloadSchemaType):
        return _INDEXES[schema.value]
    tenant = {"is_tenant": schema.is_tenant} if isinstance(schema, models.KeywordIndexParams) else {}
    return _PARAMS[type(schema)](memory=edge.Memory.Cached if schema.on_disk else None, **tenant)


def named_indexes(schema: Mapping[str, Any]) -> dict[str, str]:
    """The types of a shard's payload indexes, as the contract names them."""
    names = {str(kind): name for name, kind in _INDEXES.items()}
    return {field: names[str(index.data_type)] for field, index in schema.items()}


def params_of(search: Search) -> edge.SearchParams:
    """How far a search looks."""
    reach = REACH.get(search.effort)
    if reach is None:
        return edge.SearchParams(exact=True)
    compared = edge.QuantizationSearchParams(rescore=True, oversampling=reach.oversampling(search.k))
    return edge.SearchParams(hnsw_ef=reach.ef(far=search.far), quantization=compared)


def points_of(points: Sequence[models.PointStruct], vectors: Named | None, ids: Collection[str]) -> list[edge.Point]:
    """Those points that have one of these ids."""
    if vectors is None:
        held = (dict[str, Any](point.vector) if isinstance(point.vector, dict) else {} for point in points)
    else:
        held = ({vectors.name: memoryview(row)} for row in vectors.rows)  # Edge reads each number out of it
    given = zip(points, held, strict=True)
    return [edge.Point(str(point.id), vector, point.payload) for point, vector in given if str(point.id) in ids]


def filter_of(given: models.Filter) -> edge.Filter:
    """The same filter; a kind of condition that nothing here builds is a TypeError."""

    def side(conditions: Any) -> list[Any] | None:
        return None if conditions is None else [_condition(condition) for condition in conditions]

    return edge.Filter(must=side(given.must), should=side(given.should), must_not=side(given.must_not))


def _condition(given: object) -> Any:
    match given:
        case models.Filter():
            return filter_of(given)
        case models.HasVectorCondition():
            return edge.HasVectorCondition(given.has_vector)
        case models.FieldCondition(match=models.MatchValue() as match):
            # a Python bool would be taken for the number 0 or 1, and match no payload
            value: Any = np.bool_(match.value) if isinstance(match.value, bool) else match.value
            return edge.FieldCondition(given.key, match=edge.MatchValue(value))
        case models.FieldCondition(match=models.MatchAny() as match):
            return edge.FieldCondition(given.key, match=edge.MatchAny(list(match.any)))  # type: ignore[arg-type]
        case models.FieldCondition(range=models.Range() as bounds):
            return edge.FieldCondition(given.key, range=edge.RangeFloat(**bounds.model_dump()))
        case models.FieldCondition(range=models.DatetimeRange() as bounds):
            return edge.FieldCondition(given.key, range=edge.RangeDateTime(**bounds.model_dump(mode="json")))
    raise TypeError(f"no such condition on Edge: {given!r}")
