"""A neighbour that votes, made up."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    image_id: str
    similarity: float
    labels: Sequence[str]
    reliability: float = 1.0
    content: str = ""

    @property
    def group(self) -> str | int:
        return self.content or id(self)
