"""The records of covered images: written before anything is deleted, kept until the removal is done."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import Connection, Row, Select, and_, delete, func, select, tuple_

from visual_memory.schemas.field_types import FIELDS
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import NO_PICTURE, State, StoredImage
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import covered_images
from visual_memory.services.removal.tombstones import Tombstones

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


PAGE = 1000


@dataclass(frozen=True)
class CoveredCounts:
    """How many images a removal covers by state, and how many of them have a picture."""

    by_state: dict[State, int]
    pictures: int

    @property
    def images(self) -> int:
        """The total."""
        return sum(self.by_state.values())


class CoveredImageRecords:
    """The covered images of every tenant's removals.

    Args:
        database: the records' database.
        tombstones: receives the tombstones of every covered image; these stay when the records are deleted.
    """

    def __init__(self, database: Database, tombstones: Tombstones) -> None:
        self._database = database
        self._tombstones = tombstones

    def add(self, connection: Connection, tenant: str, removal_id: str, images: Sequence[MarkedImage]) -> None:
        """Record images and their tombstones, as part of a transaction; existing records are kept."""
        if images:
            rows = [{**each.model_dump(mode="json"), "tenant": tenant, "removal": removal_id} for each in images]
            connection.execute(self._database.insert(covered_images).on_conflict_do_nothing(), rows)
            ids, pictures = [each.image_id for each in images], [each.picture for each in images]
            self._tombstones.add(connection, tenant, removal_id, ids, pictures)

    def pages(self, removal_id: str) -> Iterator[list[MarkedImage]]:
        """The images that a removal covers, in pages."""
        return self._pages(select(covered_images).where(covered_images.c.removal == removal_id))

    def pages_of_others(self, tenant: str, removal_id: str) -> Iterator[list[MarkedImage]]:
        """The images that all other running removals of a tenant have marked and recorded, in pages."""
        others = and_(
            covered_images.c.tenant == tenant,
            covered_images.c.removal != removal_id,
            covered_images.c.removal == covered_images.c.marked_by,
        )
        return self._pages(select(covered_images).where(others))

    def covered_among(self, removal_id: str, image_ids: Collection[str]) -> set[str]:
        """Those of some image ids that a removal covers."""
        found, given = set[str](), sorted(image_ids)
        with self._database.read() as connection:
            for start in range(0, len(given), PAGE):
                some = covered_images.c.image_id.in_(given[start : start + PAGE])
                query = select(covered_images.c.image_id).where(covered_images.c.removal == removal_id, some)
                found |= {*connection.execute(query).scalars()}
        return found

    def count_all(self, removal_id: str) -> int:
        """How many images a removal covers, read in a separate transaction."""
        with self._database.read() as connection:
            return self.count(connection, removal_id).images

    def count(self, connection: Connection, removal_id: str) -> CoveredCounts:
        """How many images a removal covers."""
        of_removal = covered_images.c.removal == removal_id
        states = select(covered_images.c.state, func.count()).where(of_removal).group_by(covered_images.c.state)
        by_state = {State(state): number for state, number in connection.execute(states.order_by("state"))}
        with_picture = of_removal & covered_images.c.picture.not_like(f"{NO_PICTURE}%")
        pictures = connection.execute(select(func.count()).where(with_picture)).scalar_one()
        return CoveredCounts(by_state, pictures)

    def delete(self, connection: Connection, removal_id: str) -> None:
        """Delete a removal's records, as part of a transaction."""
        connection.execute(delete(covered_images).where(covered_images.c.removal == removal_id))

    def _pages(self, query: Select[Any]) -> Iterator[list[MarkedImage]]:
        columns = (covered_images.c.removal, covered_images.c.image_id, covered_images.c.picture)
        ordered, last = query.order_by(*columns).limit(PAGE), None
        while True:
            with self._database.read() as connection:
                rows = connection.execute(ordered if last is None else ordered.where(_is_after(last))).all()
            if rows:
                yield [MarkedImage.model_validate(row, from_attributes=True) for row in rows]
                last = rows[-1]
            if len(rows) < PAGE:
                return


def _is_after(last: Row[Any]) -> Any:
    return tuple_(covered_images.c.removal, covered_images.c.image_id, covered_images.c.picture) > tuple_(
        last.removal, last.image_id, last.picture
    )
