"""The images that a removal covers, as they are recorded before any of them is deleted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from visual_memory.schemas.field_types import FIELDS
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State, StoredImage

KNOWN = {"image_id", "state", "content_hash", "picture"}
VECTORS = "vector_digests"
FILTERABLE = {*FIELDS, "metadata"} - KNOWN
UNKNOWN = {"labels": [], "accepted_at": datetime.min.replace(tzinfo=UTC)}
"""Values for records of an earlier version, which lack these fields."""


EVERYTHING = Filter({})


class CoveredImage(BaseModel):
    """What is recorded of an image that is going to be deleted.

    Attributes:
        fields: the image's other filterable fields, as JSON.
    """

    image_id: str
    state: State
    content_hash: str
    picture: str
    fields: dict[str, Any] = Field(default_factory=dict)


class MarkedImage(CoveredImage):
    """A covered image, and the id of the removal whose mark its point carries (`marked_by`)."""

    marked_by: str

    @classmethod
    def of(cls, image: StoredImage, marked_by: str, vector_digests: Sequence[str] = ()) -> "MarkedImage":
        """Describe a marked image; `vector_digests` are the digests to block, if the removal blocks."""
        covered = to_covered_image(image)
        vectors = {VECTORS: [*vector_digests]} if vector_digests else {}
        return cls(**covered.model_dump(exclude={"fields"}), fields=covered.fields | vectors, marked_by=marked_by)

    def image(self, tenant: str) -> StoredImage:
        """Rebuild the image, as far as filters need it."""
        return StoredImage.model_validate(
            {**UNKNOWN, **self.fields, **self.model_dump(include=KNOWN), "tenant": tenant}
        )


@dataclass(frozen=True)
class CoveredImages:
    """The images that a removal covered, in pages that can be read repeatedly: they may not fit into memory.

    Attributes:
        pages: returns the pages from the first one on.
        filter: the filter of the removal; empty if it covered everything or the filter is not known.
    """

    pages: Callable[[], Iterable[Sequence[CoveredImage]]]
    filter: Filter = EVERYTHING

    @classmethod
    def of(cls, images: Iterable[StoredImage]) -> "CoveredImages":
        """Describe images that fit into memory."""
        covered = [to_covered_image(image) for image in images]
        return cls(lambda: [covered])

    def __iter__(self) -> Iterator[Sequence[CoveredImage]]:
        """The pages that are not empty."""
        return (page for page in self.pages() if page)

    def __bool__(self) -> bool:
        """Whether there is any image."""
        return any(True for _ in self)


RemovalHook = Callable[[str, CoveredImages], None]
"""Deletes what was derived from removed images, such as stored decisions. Arguments: the tenant, the images.

A hook is called once with everything that a removal covered, possibly nothing, after the points are deleted. It is
called again after a crash, and for images that were accepted before the request but written after the marking. Images
that two removals cover are passed to the hooks by both.
"""


def to_covered_image(image: StoredImage) -> CoveredImage:
    """Describe an image that is going to be deleted."""
    fields = image.model_dump(mode="json", include=FILTERABLE, exclude_none=True)
    return CoveredImage.model_validate({**image.model_dump(include=KNOWN), "fields": fields})
