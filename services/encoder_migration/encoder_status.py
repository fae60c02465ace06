"""The status of a memory's encoders: identity, state, and how many images have their vectors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from visual_memory.schemas.encoder import EncoderSpec, FillCounts, FillSettings
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.memory.missing_vectors import MissingVectors

EncoderState = Literal["active", "before", "added", "dropping"]
"""``before``: it was active before the present one; one can switch back to it."""


class EncoderStatus(BaseModel):
    """The status of one encoder, with exact counts over all tenants' images."""

    spec: EncoderSpec
    state: EncoderState
    fill: FillSettings
    counts: FillCounts


@dataclass(frozen=True)
class ListEncoderStatuses:
    """The use case.

    Attributes:
        missing_vectors_of: what an encoder lacks.
    """

    records: EncoderRecords
    missing_vectors_of: Callable[[EncoderSpec], MissingVectors]

    def __call__(self) -> list[EncoderStatus]:
        """Every encoder that the memory knows, in the order in which they were added."""
        return list(self._each())

    def _each(self) -> Iterator[EncoderStatus]:
        active, dropping = self.records.active(), self.records.dropping()
        states: dict[str, EncoderState] = {
            self.records.previous() or "": "before",
            active.name if active else "": "active",
        }
        for name, spec in self.records.known().items():
            state: EncoderState = "dropping" if name in dropping else states.get(name, "added")
            counts = self.missing_vectors_of(spec).counts(None)
            yield EncoderStatus(spec=spec, state=state, fill=self.records.fill(name), counts=counts)
