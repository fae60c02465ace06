"""How every encoder of a memory is: what it is made of, what it does, and which images have its vector."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from visual_memory.schemas.encoder import EncoderSpec, FillCounts, FillSettings
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.memory.missing_vectors import MissingVectors

EncoderState = Literal["active", "before", "added", "dropping"]
"""``before``: it classified before the active one, and one can switch back to it."""


class EncoderStatus(BaseModel):
    """One encoder, with exact counts over all tenants' images."""

    spec: EncoderSpec
    state: EncoderState
    fill: FillSettings
    counts: FillCounts


@dataclass(frozen=True)
class ListEncoderStatuses:
    """The use case, with the parts that it needs.

    Attributes:
        filling_of: what an encoder lacks.
    """

    records: EncoderRecords
    missing_vectors_of: Callable[[EncoderSpec], MissingVectors]

    def __call__(self) -> list[EncoderStatus]:
        """Every encoder that the memory knows, the one that was added first in front."""
        return list(self._each())

    def _each(self) -> Iterator[EncoderStatus]:
        active, dropping = self.records.active(), self.records.dropping()
        states: dict[str, EncoderState] = {
            self.records.before() or "": "before",
            active.name if active else "": "active",
        }
        for name, spec in self.records.known().items():
            state: EncoderState = "dropping" if name in dropping else states.get(name, "added")
            counts = self.missing_vectors_of(spec).counts(None)
            yield EncoderStatus(spec=spec, state=state, fill=self.records.fill(name), counts=counts)
