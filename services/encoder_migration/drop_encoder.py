"""Drop an encoder: delete its vectors, their index and judgements, and finally erase their bytes."""

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
"""Time in which every process notices that an encoder is being dropped, and stops writing its vectors."""


@dataclass(frozen=True)
class DropEncoder:
    """The use case.

    Attributes:
        of: the resources of an encoder.
        compact: erases what was deleted; see `services.removal.erasure.erase_removed_data.EraseRemovedData`.
        release_seconds: how long to wait for the other processes.
    """

    records: EncoderRecords
    engine: Engine
    of: Callable[[EncoderSpec], EncoderResources]
    compact: Callable[[], Compaction]
    release_seconds: float = RELEASE_SECONDS

    def __call__(self, name: str) -> Compaction:
        """Drop an encoder that is not active; after a crash at any moment, the next call continues.

        The drop is recorded first, so that no process fills, loads or switches to the encoder; its record is deleted
        last.

        Raises:
            NotFound: there is no such encoder.
            Conflict: it is active; or it was, and images lack the active encoder's vectors.
            OutOfSpace: the disk is too full to compact; the vectors are deleted, and the next call erases their bytes.
        """
        spec, active = self.records.get(name), self.records.active()
        if active is not None and active.name != name:
            left = self.of(self.records.get(active.name)).memory.missing_vectors.counts(None).left
            if left and active.before == name:
                raise Conflict(f"{left} images have no vector of {active.name} yet: {name} is kept until they have")
        self.records.begin_drop(name)
        time.sleep(self.release_seconds)
        active = self.records.active()
        if active is not None and active.name == name:
            self.records.cancel_drop(name)
            raise Conflict(f"{name} was switched to at this moment, and stays")
        resources = self.of(spec)
        self.engine.drop_vector(vector_name(name))
        resources.judgements.delete_all()
        resources.memory.missing_vectors.clear_given_up(name)
        done = self.compact()
        self.records.delete(name)
        return done

    def cancel(self, name: str) -> Compaction:
        """Drop an encoder that was added and never active.

        Raises:
            NotFound: there is no such encoder.
            Conflict: it is active, or was so before.
        """
        active = self.records.active()
        if active is not None and name in (active.name, self.records.previous()):
            did = "classifies" if name == active.name else "classified before"
            raise Conflict(f"{name} {did}: only an encoder that was added and never switched to is cancelled")
        return self(name)

    def added(self) -> str:
        """The only encoder that was added and never switched to.

        Raises:
            NotFound: there is none.
            Conflict: there are several.
        """
        return find_added(self.records)


def find_added(records: EncoderRecords) -> str:
    """The only encoder that was added and not switched to.

    Raises:
        NotFound: there is none.
        Conflict: there are several.
    """
    active = records.active()
    names = [name for name in records.known() if active is None or name not in (active.name, records.previous())]
    if not names:
        raise NotFound("no encoder is being added")
    if len(names) > 1:
        raise Conflict(f"several encoders were added: name one of {', '.join(names)}")
    return names[0]
