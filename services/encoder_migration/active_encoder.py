"""Which encoder a memory classifies with: as its records say, else as its collection does, else as the settings do."""

import re
from collections.abc import Mapping
from pathlib import Path

from visual_memory.schemas.encoder import EncoderIdentity, EncoderSpec
from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.schemas.image import now
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.encoder_fingerprint import BUILT_IN, BUILT_IN_DIMENSION
from visual_memory.services.encoding.load_encoder import identify, legacy_name, load_encoder
from visual_memory.services.memory.points.collection_schema import encoder_name_of
from visual_memory.services.settings import EncoderSettings
from visual_memory.services.vector_engines.engine_contract import Shape

ENCODER_NAME = re.compile(r"[^/]+-[0-9a-f]{12}")
"""The name of an encoder, as lists show it; no model of the hub has such a one."""


def resolve_active_encoder(records: EncoderRecords, shape: Shape | None, settings: EncoderSettings) -> EncoderSpec:
    """The active encoder of a memory.

    Where there are no records yet, they are made before the collection is: of a memory that was made before there were
    any, the encoder that it holds vectors of, with the preprocessing of then; of a new one, that of the settings.

    Args:
        records: of the memory.
        shape: of its collection; None where there is none yet.
        settings: what they name must be known to the memory, unless it upgrades by itself.

    Raises:
        EncoderUnusable: there is no such model as the settings name.
        EncoderMismatch: the settings name an encoder that the memory does not know.
    """
    active = records.active() or records.create_first(_first(shape, settings))
    known = records.known()
    if settings.name is None or find_by_name(known, settings):
        return known[active.name]
    if settings.upgrade == "manual" and not any(
        find_by_fingerprint(known, identify(settings, version)) for version in (2, 1)
    ):
        raise EncoderMismatch(
            f"the settings name the encoder {settings.name} (pooling {settings.pooling}, precision"
            f" {settings.precision}), which this memory does not know, for it was made with {active.name}: leave"
            " VISUAL_MEMORY_ENCODER__NAME unset, and add the other beside it: visual-memory encoder add"
            f" {settings.name}; or, if its files were replaced, put back those that it was made with"
        )
    return known[active.name]


def find_by_name(known: Mapping[str, EncoderSpec], settings: EncoderSettings) -> EncoderSpec | None:
    """The encoder that the settings name as 'encoder list' does; None where they name a model, or nothing.

    Raises:
        EncoderMismatch: it is the name of an encoder that the memory does not know.
    """
    held = known.get(settings.name or "")
    if held is None and ENCODER_NAME.fullmatch(settings.name or "") and not Path(settings.name or "").is_dir():
        raise EncoderMismatch(
            f"the settings name the encoder {settings.name}, and this memory has {', '.join(known)}: leave"
            " VISUAL_MEMORY_ENCODER__NAME unset, or name a model or one of these"
        )
    return held


def find_by_fingerprint(known: Mapping[str, EncoderSpec], identity: EncoderIdentity) -> EncoderSpec | None:
    """The known encoder with the same vectors, whatever it is called."""
    return next((spec for spec in known.values() if spec.fingerprint == identity.fingerprint), None)


def _first(shape: Shape | None, settings: EncoderSettings) -> EncoderSpec:
    wanted = identify(settings)
    if shape is None:
        dimension = BUILT_IN_DIMENSION if wanted.model == BUILT_IN else load_encoder(settings, wanted).dimension
        return _spec(wanted, wanted.name, dimension)
    held = {encoder_name_of(vector): size for vector, size in shape.vectors.items()}
    earlier = legacy_name(settings)
    if earlier in held:
        return _spec(identify(settings, 1), earlier, held[earlier])
    for name, size in held.items():
        if name.endswith(wanted.fingerprint[:12]):
            return _spec(wanted, name, size)
    names = ", ".join(f"{name} ({size} numbers)" for name, size in held.items())
    raise EncoderMismatch(
        f"the collection holds vectors of {names}, and not of {earlier}, which the settings name: set"
        " VISUAL_MEMORY_ENCODER__NAME to the model that made them, or use another collection"
    )


def _spec(identity: EncoderIdentity, name: str, dimension: int) -> EncoderSpec:
    return EncoderSpec.model_validate(identity.model_dump() | {"name": name, "dimension": dimension, "added_at": now()})
