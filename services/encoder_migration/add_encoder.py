"""Add: a further named vector in the points of a memory, and the record that lets the workers fill it."""

from collections.abc import Callable
from dataclasses import dataclass

from visual_memory.schemas.encoder import EncoderIdentity, EncoderSpec, FillSettings
from visual_memory.schemas.errors import Conflict
from visual_memory.schemas.image import now
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.encoder_contract import Encoder
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.settings import EncoderSettings
from visual_memory.services.vector_engines.engine_contract import Engine


@dataclass(frozen=True)
class AddEncoder:
    """The use case, with the parts that it needs.

    Attributes:
        identify: what decides the vectors of the encoder that settings name.
        load: loads that encoder.
    """

    records: EncoderRecords
    engine: Engine
    identify: Callable[[EncoderSettings], EncoderIdentity]
    load: Callable[[EncoderSettings, EncoderIdentity], Encoder]

    def __call__(self, asked: EncoderSettings, share: float = 1.0) -> EncoderSpec:
        """Add the encoder that settings name beside the active one; workers fill it from then on.

        It is loaded first, so that one that cannot be is refused before anything is made of it. The vector comes before
        the record, by which every process writes it: killed in between, it is empty, and the next call goes on.

        Args:
            asked: names it.
            share: part of the time that a worker fills it.

        Raises:
            EncoderUnusable: it cannot be loaded, or gives no unit vectors.
            Conflict: the memory has an encoder of this fingerprint already, or none yet that it could be added to.
        """
        active = self.records.active()
        if active is None:
            raise Conflict("the memory has no encoder yet that another could be added to: start the service once")
        identity = self.identify(asked)
        self._check_is_new(identity, active.name)
        dimension = self.load(asked, identity).dimension
        spec = EncoderSpec(**identity.model_dump(), dimension=dimension, added_at=now())
        self.engine.add_vector(vector_name(spec.name), dimension)
        if not self.records.add(spec):  # another has added it at this moment
            self._check_is_new(identity, active.name)
        self.records.set_fill(spec.name, FillSettings(share=share))
        return spec

    def _check_is_new(self, identity: EncoderIdentity, active: str) -> None:
        for name, spec in self.records.known().items():
            if identity.fingerprint != spec.fingerprint:
                continue
            alike = "the same weights, configuration, preprocessing, pooling and precision"
            if name == active:
                raise Conflict(
                    f"{identity.model} is {name}, which is active already ({alike}): there is nothing to add"
                )
            if name in self.records.dropping():
                raise Conflict(
                    f"{identity.model} is {name}, which is being dropped: end that by 'visual-memory encoder drop"
                    f" {name}', then add it anew"
                )
            raise Conflict(
                f"{identity.model} is {name}, which was added already ({alike}): see 'visual-memory encoder status'"
            )
