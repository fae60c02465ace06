"""Determine a memory's active encoder: from its records, otherwise from its collection or the settings."""

import re
from collections.abc import Mapping
from pathlib import Path

from visual_memory.schemas.encoder import EncoderIdentity, EncoderSpec
from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.schemas.moments import now
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.encoder_fingerprint import BUILT_IN, BUILT_IN_DIMENSION
from visual_memory.services.encoding.load_encoder import identify, legacy_name, load_encoder
from visual_memory.services.memory.points.collection_schema import encoder_name_of
from visual_memory.services.settings import EncoderSettings
from visual_memory.services.vector_engines.engine_contract import Shape

ENCODER_NAME = re.compile(r"[^/]+-[0-9a-f]{12}")
"""Pattern of an encoder's name, as listed; no model of the hub has such a name."""


def resolve_active_encoder(records: EncoderRecords, shape: Shape | None, settings: EncoderSettings) -> EncoderSpec:
    """Determine the active encoder of a memory.

    If there are no records, they are created before the collection is. For a memory from a release without records, the
    first encoder is the one whose vectors it contains, with that release's preprocessing; for a new memory, it is the
    one in the settings.

    Args:
        records: of the memory.
        shape: of its collection; None: there is none yet.
        settings: the memory must know the encoder that they name, unless it upgrades automatically.

    Raises:
        EncoderUnusable: the model that the settings name does not exist.
        EncoderMismatch: the memory does not know the encoder that the settings name.
    """
    active = records.active() or records.create_first(_first_encoder(shape, settings))
    known = records.known()
    if settings.name is None or find_by_name(known, settings):
        return known[active.name]
    if settings.upgrade == "manual" and not any(
        find_by_fingerprint(known, identify(settings, version)) for version in (2, 1)
    ):
        raise EncoderMismatch(
            f"the settings name the encoder {settings.name} (pooling {settings.pooling}, precision"
            f" {settings.precision}), which this memory does not know, for it was made with {active.name}: leave"
            " VISUAL_MEMORY_ENCODER__NAME unset, and add the other encoder: visual-memory encoder add"
            f" {settings.name}; or, if its files were replaced, restore those that it was made with"
        )
    return known[active.name]


def find_by_name(known: Mapping[str, EncoderSpec], settings: EncoderSettings) -> EncoderSpec | None:
    """The encoder that the settings name as in 'encoder list'; None if they name a model, or nothing.

    Raises:
        EncoderMismatch: the name is that of an encoder that the memory does not know.
    """
    encoder = known.get(settings.name or "")
    if encoder is None and ENCODER_NAME.fullmatch(settings.name or "") and not Path(settings.name or "").is_dir():
        raise EncoderMismatch(
            f"the settings name the encoder {settings.name}, and this memory has {', '.join(known)}: leave"
            " VISUAL_MEMORY_ENCODER__NAME unset, or name a model or one of these"
        )
    return encoder


def find_by_fingerprint(known: Mapping[str, EncoderSpec], identity: EncoderIdentity) -> EncoderSpec | None:
    """The known encoder with the same fingerprint, whose name may differ."""
    return next((spec for spec in known.values() if spec.fingerprint == identity.fingerprint), None)


def _first_encoder(shape: Shape | None, settings: EncoderSettings) -> EncoderSpec:
    identity = identify(settings)
    if shape is None:
        dimension = BUILT_IN_DIMENSION if identity.model == BUILT_IN else load_encoder(settings, identity).dimension
        return _spec(identity, identity.name, dimension)
    dimensions = {encoder_name_of(vector): size for vector, size in shape.vectors.items()}
    legacy = legacy_name(settings)
    if legacy in dimensions:
        return _spec(identify(settings, 1), legacy, dimensions[legacy])
    for name, size in dimensions.items():
        if name.endswith(identity.fingerprint[:12]):
            return _spec(identity, name, size)
    names = ", ".join(f"{name} ({size} numbers)" for name, size in dimensions.items())
    raise EncoderMismatch(
        f"the collection contains vectors of {names}, and not of {legacy}, which the settings name: set"
        " VISUAL_MEMORY_ENCODER__NAME to the model that made them, or use another collection"
    )


def _spec(identity: EncoderIdentity, name: str, dimension: int) -> EncoderSpec:
    return EncoderSpec.model_validate(identity.model_dump() | {"name": name, "dimension": dimension, "added_at": now()})
