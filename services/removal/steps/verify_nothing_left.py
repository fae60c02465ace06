"""Count the images that a removal covers and that still exist after its deletion."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import marked_by
from visual_memory.services.removal.covered_image_records import CoveredImage
from visual_memory.services.removal.removal_records import RemovalState
from visual_memory.services.removal.steps.mark_covered_images import MarkCoveredImages


@dataclass(frozen=True)
class CountRemaining:
    """Counts the images that a removal still has to delete.

    Attributes:
        count_derived: count records that still describe some covered images.
    """

    memory: Memory
    mark: MarkCoveredImages
    count_derived: Sequence[Callable[[str, Sequence[CoveredImage]], int]] = ()

    def __call__(self, state: RemovalState, pages: Iterable[Sequence[CoveredImage]]) -> int:
        """The number of covered images that exist: by the filter, by the mark, by the intake, by the records' pages.

        An image may be counted more than once; 0 means that nothing is left.
        """
        before = Clause("accepted_at", FieldType.DATETIME, bounds={"lte": state.removal.requested_at})
        remaining = self.memory.images.count(state.tenant, [*self.mark.clauses(state), before])
        remaining += self.memory.images.count(state.tenant, [marked_by(state.id)])
        for named in self.mark.named_by_entries(state):
            remaining += self.memory.images.count(state.tenant, named)
        for page in pages:
            stored = self.memory.images.get(state.tenant, [image.image_id for image in page])
            pictures = {image.picture for image in stored.values()}
            remaining += sum(image.picture in pictures for image in page)
            remaining += sum(count(state.tenant, page) for count in self.count_derived)
        return remaining
