"""Classify the query of a stored decision again, with the encoder that the decision was made with."""

from collections.abc import Callable
from dataclasses import dataclass

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.services.classification.classify import Classify
from visual_memory.services.memory.memory_facade import Memory


@dataclass(frozen=True)
class ClassifyAgain:
    """Finds the classifier for a stored decision's encoder.

    Attributes:
        active: by the vectors of the active encoder.
        by_other: by those of another encoder that the memory knows; raises `EncoderMismatch` where it knows none.
    """

    active: Classify
    by_other: Callable[[str], Classify]

    @property
    def memory(self) -> Memory:
        """The memory of the active encoder."""
        return self.active.memory

    def by_encoder(self, name: str) -> Classify:
        """The classifier by the vectors of an encoder.

        Raises:
            EncoderMismatch: the memory does not know the encoder.
        """
        return self.active if name == self.active.encoder.name else self.by_other(name)

    def knows(self, encoder: str) -> bool:
        """Whether the memory has vectors of an encoder."""
        try:
            return bool(self.by_encoder(encoder))
        except EncoderMismatch:
            return False


def with_all_neighbours(options: ClassifyOptions) -> ClassifyOptions:
    """The options with all neighbours shown, and without storing or re-ranking."""
    return options.model_copy(update={"show": None, "store": False, "rerank": False})


def of_vote_alone(options: ClassifyOptions) -> ClassifyOptions:
    """The options of the vote alone: no abstaining, no prediction set, no re-rank."""
    return with_all_neighbours(options).model_copy(update={"unknown_above": None, "coverage": None})
