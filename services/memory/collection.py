"""The collection of a memory: it holds one encoder's vectors, and an index of every field that a filter may name."""

from collections.abc import Mapping
from urllib.parse import quote, unquote

from qdrant_client import models

from schemas.errors import EncoderMismatch
from schemas.filter import FIELDS, FieldType
from services.memory.engine import Engine, Index

AT_HAND = ("state", "label_paths", "removal", "doubt")
"""Beside the tenant, what searches, removals and curation ask for again and again: held in memory."""
_INDEX: Mapping[FieldType, Index] = {
    FieldType.KEYWORD: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, on_disk=True),
    FieldType.INTEGER: models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, on_disk=True),
    FieldType.FLOAT: models.FloatIndexParams(type=models.FloatIndexType.FLOAT, on_disk=True),
    FieldType.BOOLEAN: models.BoolIndexParams(type=models.BoolIndexType.BOOL, on_disk=True),
    FieldType.DATETIME: models.DatetimeIndexParams(type=models.DatetimeIndexType.DATETIME, on_disk=True),
}
"""The others lie in the system's cache: a collection is opened in two thirds of the time, and searched as quickly."""


def vector_name(encoder_name: str) -> str:
    """The name of an encoder's vectors: engines make a folder of it, and an encoder may be named by a path."""
    return quote(encoder_name, safe="")


def encoder_of(vector: str) -> str:
    """The encoder of vectors of this name."""
    return unquote(vector)


def open_collection(engine: Engine, encoder_name: str, dimension: int, metadata: Mapping[str, FieldType]) -> None:
    """Create the collection, or check that it is this encoder's and add indexes that it lacks.

    Args:
        engine: holds it.
        encoder_name: whose vectors it holds.
        dimension: their length.
        metadata: the declared metadata fields.

    Raises:
        EncoderMismatch: it holds vectors of another name or length.
    """
    vector, wanted = vector_name(encoder_name), _indexes(metadata)
    shape = engine.inspect()
    if shape is None:
        engine.create(vector, dimension, wanted)
        shape = engine.inspect()  # another process may have been first, with another encoder
    held = {} if shape is None else shape.vectors
    if held.get(vector) != dimension:
        names = ", ".join(f"{encoder_of(name)} ({size} numbers)" for name, size in held.items()) or "no encoder"
        raise EncoderMismatch(
            f"the collection holds vectors of {names}, the settings name"
            f" {encoder_name} ({dimension} numbers); set that encoder again, or use another collection"
        )
    present = {} if shape is None else shape.indexes
    missing = {field: index for field, index in wanted.items() if present.get(field) != _kind(index)}
    if missing:
        engine.index(missing)


def _indexes(metadata: Mapping[str, FieldType]) -> dict[str, Index]:
    fields = {"picture": FieldType.KEYWORD, **FIELDS, **{f"metadata.{name}": kind for name, kind in metadata.items()}}
    tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    at_hand = dict.fromkeys(AT_HAND, models.PayloadSchemaType.KEYWORD)
    return {**{field: _INDEX[kind] for field, kind in fields.items()}, **at_hand, "tenant": tenant}


def _kind(index: Index) -> str:
    return str(index.value if isinstance(index, models.PayloadSchemaType) else index.type.value)
