"""The collection of a memory: it holds vectors of encoders, and an index of every field that a filter may name."""

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote, unquote

from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.schemas.field_types import FIELDS, FieldType
from visual_memory.services.vector_engines.engine_contract import Engine, Index

AT_HAND = ("state", "label_paths", "removal", "doubt")
"""Beside the tenant, what searches, removals and curation ask for again and again: held in memory. The others lie
in the system's cache: a collection is opened in two thirds of the time, and searched as quickly."""
_BOOL = {FieldType.BOOLEAN: "bool"}
"""Engines call the type of an index as we call that of the field, but for this."""


VECTOR_ONLY_INDEX = MappingProxyType({"vector_only": Index(FieldType.BOOLEAN, on_disk=True)})
"""Of a collection that was made before images that came as vectors were marked, it is made once they are."""
NOT_ENCODED = "not_encoded[].encoder"


def vector_name(encoder_name: str) -> str:
    """The name of an encoder's vectors: engines make a folder of it, and an encoder may be named by a path."""
    return quote(encoder_name, safe="")


def encoder_of(vector: str) -> str:
    """The encoder of vectors of this name."""
    return unquote(vector)


def held_encoder(engine: Engine) -> tuple[str, int] | None:
    """The encoder whose vectors the collection holds, and their length; None where there is no collection."""
    shape = engine.inspect()
    return next(((encoder_of(name), size) for name, size in shape.vectors.items()), None) if shape else None


def open_collection(engine: Engine, encoder_name: str, dimension: int, metadata: Mapping[str, FieldType]) -> None:
    """Create the collection, or check that it has this encoder's vectors and add indexes that it lacks.

    Args:
        engine: holds it.
        encoder_name: whose vectors it has, of others too or not.
        dimension: their length.
        metadata: the declared metadata fields.

    Raises:
        EncoderMismatch: it holds none of this name, or of another length.
    """
    vector, wanted = vector_name(encoder_name), _indexes(metadata)
    shape = engine.inspect()
    if shape is None:
        engine.create(vector, dimension, wanted | VECTOR_ONLY_INDEX)
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
    ours = {"picture": FieldType.KEYWORD, "changed_at": FieldType.DATETIME, NOT_ENCODED: FieldType.KEYWORD}
    fields = {**ours, **FIELDS, **{f"metadata.{name}": kind for name, kind in metadata.items()}}
    indexes = {field: Index(kind, on_disk=True) for field, kind in fields.items()}
    at_hand = dict.fromkeys(AT_HAND, Index(FieldType.KEYWORD))
    return {**indexes, **at_hand, "tenant": Index(FieldType.KEYWORD, is_tenant=True)}


def _kind(index: Index) -> str:
    return _BOOL.get(index.kind, index.kind.value)
