"""Add an encoder: another named vector in the memory's points, and the record that makes workers fill it."""

from collections.abc import Callable
from dataclasses import dataclass

from visual_memory.schemas.encoder import EncoderIdentity, EncoderSpec, FillSettings
from visual_memory.schemas.errors import Conflict
from visual_memory.schemas.moments import now
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.encoder_contract import Encoder
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.settings import EncoderSettings
from visual_memory.services.vector_engines.engine_contract import Engine


@dataclass(frozen=True)
class AddEncoder:
    """The use case.

    Attributes:
        identify: identifies the encoder that settings name.
        load: loads that encoder.
    """

    records: EncoderRecords
    engine: Engine
    identify: Callable[[EncoderSettings], EncoderIdentity]
    load: Callable[[EncoderSettings, EncoderIdentity], Encoder]

    def __call__(self, settings: EncoderSettings, share: float = 1.0) -> EncoderSpec:
        """Add the encoder that settings name; workers fill its vectors from then on.

        The encoder is loaded first, so that an unusable one changes nothing. The named vector is created before the
        record that makes every process write it; after a crash in between it is empty, and the next call continues.

        Args:
            settings: name the encoder.
            share: fraction of a worker's time for filling.

        Raises:
            EncoderUnusable: it cannot be loaded, or its output is not a unit vector.
            Conflict: the memory has an encoder with this fingerprint already, or has no encoder at all.
        """
        active = self.records.active()
        if active is None:
            raise Conflict("the memory has no encoder yet that another could be added to: start the service once")
        identity = self.identify(settings)
        self._check_is_new(identity, active.name)
        dimension = self.load(settings, identity).dimension
        spec = EncoderSpec(**identity.model_dump(), dimension=dimension, added_at=now())
        self.engine.add_vector(vector_name(spec.name), dimension)
        if not self.records.add(spec):  # another process added it meanwhile
            self._check_is_new(identity, active.name)
        self.records.set_fill(spec.name, FillSettings(share=share))
        return spec

    def _check_is_new(self, identity: EncoderIdentity, active: str) -> None:
        for name, spec in self.records.known().items():
            if identity.fingerprint != spec.fingerprint:
                continue
            same = "the same weights, configuration, preprocessing, pooling and precision"
            if name == active:
                raise Conflict(f"{identity.model} is {name}, which is active already ({same}): there is nothing to add")
            if name in self.records.dropping():
                raise Conflict(
                    f"{identity.model} is {name}, which is being dropped: end that by 'visual-memory encoder drop"
                    f" {name}', then add it anew"
                )
            raise Conflict(
                f"{identity.model} is {name}, which was added already ({same}): see 'visual-memory encoder status'"
            )
