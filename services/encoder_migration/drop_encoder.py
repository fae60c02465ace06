"""Drop: an encoder's vectors go, with their index, all that was computed from them, and at last their bytes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoder_migration.switch_encoder import EncoderResources
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.vector_engines.engine_contract import Compaction, Engine

RELEASE_SECONDS = 3.0
"""In which every process sees that an encoder is being dropped, and no longer writes its vectors."""


@dataclass(frozen=True)
class DropEncoder:
    """The use case, with the parts that it needs.

    Attributes:
        of: what there is of the memory by an encoder.
        compact: erases what was deleted; see `services.removal.erasure.erase_removed_data.EraseRemovedData`.
        let_go_seconds: how long it is waited for the other processes.
    """

    records: EncoderRecords
    engine: Engine
    of: Callable[[EncoderSpec], EncoderResources]
    compact: Callable[[], Compaction]
    let_go_seconds: float = RELEASE_SECONDS

    def __call__(self, name: str) -> Compaction:
        """Drop an encoder that does not classify; killed at any moment, the next call goes on.

        It is noted first, so that nobody fills, loads or switches to it; its record goes last.

        Raises:
            NotFound: there is no such encoder.
            Conflict: it is active; or images are left that the active one has no vectors of yet.
            OutOfSpace: there is no room to compact; the vectors are gone, and the next call erases their bytes.
        """
        spec, active = self.records.get(name), self.records.active()
        if active is not None and active.name != name:
            left = self.of(self.records.get(active.name)).memory.missing_vectors.counts(None).left
            if left and active.before == name:
                raise Conflict(f"{left} images have no vector of {active.name} yet: {name} is kept until they have")
        self.records.begin_drop(name)
        time.sleep(self.let_go_seconds)
        active = self.records.active()
        if active is not None and active.name == name:
            self.records.keep(name)
            raise Conflict(f"{name} was switched to at this moment, and stays")
        of = self.of(spec)
        self.engine.drop_vector(vector_name(name))
        of.judgements.delete_all()
        of.memory.missing_vectors.clear_given_up(name)
        done = self.compact()
        self.records.delete(name)
        return done

    def cancel(self, name: str) -> Compaction:
        """Drop an encoder that was added and never classified.

        Raises:
            NotFound: there is no such encoder.
            Conflict: it classifies, or did so before.
        """
        active = self.records.active()
        if active is not None and name in (active.name, self.records.before()):
            did = "classifies" if name == active.name else "classified before"
            raise Conflict(f"{name} {did}: only an encoder that was added and never switched to is cancelled")
        return self(name)

    def added(self) -> str:
        """The one encoder that was added and never switched to.

        Raises:
            NotFound: there is none.
            Conflict: there are several.
        """
        return find_added(self.records)


def find_added(records: EncoderRecords) -> str:
    """The one encoder that was added and not switched to.

    Raises:
        NotFound: there is none.
        Conflict: there are several.
    """
    active = records.active()
    names = [name for name in records.known() if active is None or name not in (active.name, records.before())]
    if not names:
        raise NotFound("no encoder is being added")
    if len(names) > 1:
        raise Conflict(f"several encoders were added: name one of {', '.join(names)}")
    return names[0]
