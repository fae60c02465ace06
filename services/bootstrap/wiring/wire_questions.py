"""What compares vectors and makes none: decisions are questioned by the encoders that they were made with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import EncoderMismatch, NotFound
from visual_memory.services.bootstrap.wiring.wire_memory import memory_of
from visual_memory.services.bootstrap.wiring.wire_removal import judgements_of
from visual_memory.services.classification.classify import Classify
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.preprocessing_crop import ALL, View
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.engine_contract import Engine

MOST_HELD = 4
"""Encoders by which decisions are questioned, beside the active one."""


@dataclass(frozen=True)
class Unloaded:
    """An encoder whose vectors are compared, in a process that makes none."""

    name: str
    dimension: int
    view: View = ALL
    batch_size: int = 1

    def encode(self, images: Sequence[PIL.Image.Image], tenant: str = "") -> NDArray[np.float32]:
        """Raise: nobody may ask for it."""
        raise NotImplementedError(f"{len(images)} pictures of {tenant!r} were to be embedded by {self.name}")


def wire_classify_by(
    settings: Settings, database: Database, engine: Engine, records: EncoderRecords, decoder: Decoder
) -> Callable[[str], Classify]:
    """Finds neighbours by the vectors of any encoder that the memory knows."""

    @lru_cache(MOST_HELD)
    def wired(spec: EncoderSpec) -> Classify:
        memory = memory_of(settings, engine, spec)
        judgement = judgements_of(settings, database, spec.name).current
        return Classify(memory, Unloaded(spec.name, spec.dimension), decoder, 1, settings.curate.prune, judgement)

    def classify_by(encoder: str) -> Classify:
        try:
            spec = records.get(encoder)
        except NotFound:
            spec = None
        if spec is None or encoder in records.dropping():
            raise EncoderMismatch(
                f"this was decided by vectors of the encoder {encoder}, which this memory does not have, or not any"
                " more: they cannot be compared with others; classify the picture again"
            )
        return wired(spec)

    return classify_by
