"""Create or check the collection: its named vectors, and an index of every field that a filter may name."""

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote, unquote

from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.schemas.field_types import FIELDS, FieldType
from visual_memory.services.vector_engines.engine_contract import Engine, Index

INDEXES_IN_MEMORY = ("state", "label_paths", "removal", "doubt")
"""Fields that searches, removals and curation filter by often; their indexes are kept in memory, as the tenant's is.

The other indexes stay on disk, in the page cache: a collection opens in two thirds of the time and is searched as fast.
"""

_BOOL = {FieldType.BOOLEAN: "bool"}
"""Index types whose names in engines differ from those of our field types."""

VECTOR_ONLY_INDEX = MappingProxyType({"vector_only": Index(FieldType.BOOLEAN, on_disk=True)})
"""Collections of earlier versions get this index once ``vector_only`` is set on their images."""
NOT_ENCODED = "not_encoded[].encoder"


def vector_name(encoder_name: str) -> str:
    """The name of an encoder's vectors, quoted: engines make a folder of it, and encoder names may be paths."""
    return quote(encoder_name, safe="")


def encoder_name_of(vector: str) -> str:
    """The name of the encoder whose vectors have this name."""
    return unquote(vector)


def stored_encoder(engine: Engine) -> tuple[str, int] | None:
    """The first encoder whose vectors the collection has, and their length; None without a collection."""
    shape = engine.inspect()
    return next(((encoder_name_of(name), size) for name, size in shape.vectors.items()), None) if shape else None


def open_collection(engine: Engine, encoder_name: str, dimension: int, metadata: Mapping[str, FieldType]) -> None:
    """Create the collection, or check that it has this encoder's vectors and add indexes that it lacks.

    Args:
        engine: stores the collection.
        encoder_name: the encoder whose vectors it must have; it may have those of others too.
        dimension: their length.
        metadata: the declared metadata fields.

    Raises:
        EncoderMismatch: it has none of this name, or of another length.
    """
    vector, wanted = vector_name(encoder_name), _indexes(metadata)
    shape = engine.inspect()
    if shape is None:
        engine.create(vector, dimension, wanted | VECTOR_ONLY_INDEX)
        shape = engine.inspect()  # another process may have created it first, with another encoder
    stored = {} if shape is None else shape.vectors
    if stored.get(vector) != dimension:
        names = ", ".join(f"{encoder_name_of(name)} ({size} numbers)" for name, size in stored.items()) or "no encoder"
        raise EncoderMismatch(
            f"the collection holds vectors of {names}, the settings name"
            f" {encoder_name} ({dimension} numbers); set that encoder again, or use another collection"
        )
    present = {} if shape is None else shape.indexes
    missing = {field: index for field, index in wanted.items() if present.get(field) != _kind(index)}
    if missing:
        engine.index(missing)


def _indexes(metadata: Mapping[str, FieldType]) -> dict[str, Index]:
    internal = {"picture": FieldType.KEYWORD, "changed_at": FieldType.DATETIME, NOT_ENCODED: FieldType.KEYWORD}
    fields = {**internal, **FIELDS, **{f"metadata.{name}": kind for name, kind in metadata.items()}}
    indexes = {field: Index(kind, on_disk=True) for field, kind in fields.items()}
    in_memory = dict.fromkeys(INDEXES_IN_MEMORY, Index(FieldType.KEYWORD))
    return {**indexes, **in_memory, "tenant": Index(FieldType.KEYWORD, is_tenant=True)}


def _kind(index: Index) -> str:
    return _BOOL.get(index.kind, index.kind.value)
