"""What a removal covered, and those who are told of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from schemas.filter import Filter
from schemas.image import State, StoredImage

EVERYTHING = Filter({})


class Note(BaseModel):
    """What must be known of a point after it is gone.

    Attributes:
        fields: what else filters may ask for, as JSON.
    """

    image_id: str
    state: State
    content_hash: str
    picture: str
    fields: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class CoveredImages:
    """The images that a removal covered: page by page and as often as needed, as memory may not hold them all.

    Attributes:
        pages: reads them from the beginning.
        filter: what the removal was asked for with; empty where that was everything, or is not known.
    """

    pages: Callable[[], Iterable[Sequence[Note]]]
    filter: Filter = EVERYTHING

    @classmethod
    def of(cls, images: Iterable[StoredImage]) -> "CoveredImages":
        """Images that fit into memory."""
        notes = [Note.model_validate(image, from_attributes=True) for image in images]
        return cls(lambda: [notes])

    def __iter__(self) -> Iterator[Sequence[Note]]:
        """The pages that hold any."""
        return (page for page in self.pages() if page)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return any(True for _ in self)


RemovalHook = Callable[[str, CoveredImages], None]
"""Takes away what was made of images that are gone, such as stored decisions: a tenant, and what they were.

It is called once for all that a removal covered, after their points are deleted; again after a crash, and for what had
been accepted before the request but was written after its mark.
"""
