"""Which images a request covers, as filters that an engine can take; and which of them an action may change."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause, Filter, matches
from visual_memory.schemas.image import State, StoredImage
from visual_memory.services.infrastructure.records.database import batches
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import UNMARKED, in_state

Key = TypeVar("Key")

PAGE = 1000
"""Images that are read, recorded and written together."""
IDS_AT_ONCE = 1000


@dataclass(frozen=True)
class Selection:
    """The images of a request, except those that a removal has marked.

    Attributes:
        parts: filters whose images are the request's, each image of one of them; not empty.
    """

    parts: Sequence[Sequence[Clause]]

    def pages(self, memory: Memory, tenant: str, states: Collection[State]) -> Iterator[list[StoredImage]]:
        """The images in some states, in pages that are not empty. They may be changed meanwhile."""
        for part in self.parts:
            for page in memory.images.pages(tenant, [*part, *_in(states), UNMARKED], PAGE):
                if page:
                    yield page

    def covers(self, image: StoredImage, states: Collection[State]) -> bool:
        """Whether an image that was read again is still one of the request's, in one of the states."""
        return image.removal is None and image.state in states and any(matches(part, image) for part in self.parts)

    def count(self, memory: Memory, tenant: str, clauses: Sequence[Clause] = ()) -> int:
        """The number of images that meet further conditions too."""
        return sum(memory.images.count(tenant, [*part, *clauses, UNMARKED]) for part in self.parts)

    def by_state(self, memory: Memory, tenant: str) -> dict[State, int]:
        """The number of images by state."""
        return _sum(memory.images.count_by_state(tenant, [*part, UNMARKED]) for part in self.parts)

    def by_label(self, memory: Memory, tenant: str) -> dict[str, int]:
        """The number of images by label, the most frequent first, then by name."""
        counts = _sum(dict(memory.images.count_by_label(tenant, [*part, UNMARKED])) for part in self.parts)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def select(filter_: Filter, metadata: Mapping[str, FieldType], image_ids: Collection[str] | None = None) -> Selection:
    """The images that meet a filter.

    Args:
        filter_: the filter.
        metadata: the declared metadata fields.
        image_ids: only these; None: all.

    Raises:
        InvalidFilter: the filter names an unknown field, or a value of the wrong type.
    """
    clauses = filter_.clauses(metadata)
    if image_ids is None:
        return Selection([clauses])
    some = batches(sorted({*image_ids}), IDS_AT_ONCE)
    return Selection([[*clauses, Clause("image_id", FieldType.KEYWORD, tuple(batch))] for batch in some])


def _in(states: Collection[State]) -> list[Clause]:
    return [] if len(states) == len(State) else [in_state(*states)]


def _sum(counts: Iterable[dict[Key, int]]) -> dict[Key, int]:
    total: dict[Key, int] = {}
    for each in counts:
        for key, number in each.items():
            total[key] = total.get(key, 0) + number
    return total
