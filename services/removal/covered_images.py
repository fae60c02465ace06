"""What a removal covered: noted before anything of it goes, and kept until the removal is done."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import Connection, Row, Select, and_, delete, func, select, tuple_

from visual_memory.schemas.field_types import FIELDS
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State, StoredImage
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import covered_images, removals, tombstones
from visual_memory.services.memory.points.point_payload import NO_PICTURE
from visual_memory.services.removal.removed_image_digests import image_tombstone, tombstone

PAGE = 1000
KNOWN = {"image_id", "state", "content_hash", "picture"}
VECTORS = "vector_digests"
FILTERABLE = {*FIELDS, "metadata"} - KNOWN
UNKNOWN = {"labels": [], "accepted_at": datetime.min.replace(tzinfo=UTC)}
"""Of what an earlier version had noted."""


EVERYTHING = Filter({})


class CoveredImage(BaseModel):
    """What must be known of a point after it is gone.

    Attributes:
        fields: what else filters may ask for, as JSON.
    """

    image_id: str
    state: State
    content_hash: str
    picture: str
    fields: dict[str, Any] = Field(default_factory=dict)


class MarkedImage(CoveredImage):
    """A noted image; `marked_by` is the removal whose mark its point has."""

    marked_by: str

    @classmethod
    def of(cls, image: StoredImage, marked_by: str, vector_digests: Sequence[str] = ()) -> "MarkedImage":
        """A marked image; with that by which its vectors are known again, where they may be refused."""
        note = to_covered_image(image)
        vectors = {VECTORS: [*vector_digests]} if vector_digests else {}
        return cls(**note.model_dump(exclude={"fields"}), fields=note.fields | vectors, marked_by=marked_by)

    def image(self, tenant: str) -> StoredImage:
        """The image again, as far as filters may ask for it."""
        return StoredImage.model_validate(
            {**UNKNOWN, **self.fields, **self.model_dump(include=KNOWN), "tenant": tenant}
        )


@dataclass(frozen=True)
class CoveredImages:
    """The images that a removal covered: page by page and as often as needed, as memory may not hold them all.

    Attributes:
        pages: reads them from the beginning.
        filter: what the removal was asked for with; empty where that was everything, or is not known.
    """

    pages: Callable[[], Iterable[Sequence[CoveredImage]]]
    filter: Filter = EVERYTHING

    @classmethod
    def of(cls, images: Iterable[StoredImage]) -> "CoveredImages":
        """Images that fit into memory."""
        notes = [to_covered_image(image) for image in images]
        return cls(lambda: [notes])

    def __iter__(self) -> Iterator[Sequence[CoveredImage]]:
        """The pages that hold any."""
        return (page for page in self.pages() if page)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return any(True for _ in self)


RemovalHook = Callable[[str, CoveredImages], None]
"""Takes away what was made of images that are gone, such as stored decisions: a tenant, and what they were.

It is called once for all that a removal covered, which may be nothing, after their points are deleted; again after a
crash, and for what had been accepted before the request but was written after its mark. Images that two removals cover
are told of by both.
"""


@dataclass(frozen=True)
class CoveredCounts:
    """How many images a removal covered, in all and by the state they were in, and how many had a picture."""

    by_state: dict[State, int]
    pictures: int

    @property
    def images(self) -> int:
        """In all."""
        return sum(self.by_state.values())


class CoveredImageRecords:
    """The notes of every tenant's removals, and the tombstones that stay of them.

    Args:
        database: where they are.
        key: of tombstones of images.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key

    def add(self, connection: Connection, tenant: str, removal_id: str, images: Sequence[MarkedImage]) -> None:
        """Note images as part of a transaction; those that are noted already stay as they are."""
        if images:
            rows = [{**each.model_dump(mode="json"), "tenant": tenant, "removal": removal_id} for each in images]
            connection.execute(self._database.insert(covered_images).on_conflict_do_nothing(), rows)
            digests = {tombstone(each.picture) for each in images}
            digests |= {image_tombstone(self._key, tenant, each.image_id) for each in images}
            stones = [{"tenant": tenant, "digest": digest, "removal": removal_id} for digest in sorted(digests)]
            connection.execute(self._database.insert(tombstones).on_conflict_do_nothing(), stones)

    def pages(self, removal_id: str) -> Iterator[list[MarkedImage]]:
        """What a removal covers, page by page."""
        return self._pages(select(covered_images).where(covered_images.c.removal == removal_id))

    def pages_of_others(self, tenant: str, removal_id: str) -> Iterator[list[MarkedImage]]:
        """What all other running removals of a tenant have marked and noted, page by page."""
        theirs = and_(
            covered_images.c.tenant == tenant,
            covered_images.c.removal != removal_id,
            covered_images.c.removal == covered_images.c.marked_by,
        )
        return self._pages(select(covered_images).where(theirs))

    def naming(self, removal_id: str, image_ids: Collection[str]) -> set[str]:
        """Those of some image ids that a removal has noted."""
        found, given = set[str](), sorted(image_ids)
        with self._database.read() as connection:
            for start in range(0, len(given), PAGE):
                some = covered_images.c.image_id.in_(given[start : start + PAGE])
                asked = select(covered_images.c.image_id).where(covered_images.c.removal == removal_id, some)
                found |= {*connection.execute(asked).scalars()}
        return found

    def count(self, connection: Connection, removal_id: str) -> CoveredCounts:
        """How many a removal covers."""
        of_it = covered_images.c.removal == removal_id
        states = select(covered_images.c.state, func.count()).where(of_it).group_by(covered_images.c.state)
        by_state = {State(state): number for state, number in connection.execute(states.order_by("state"))}
        with_picture = of_it & covered_images.c.picture.not_like(f"{NO_PICTURE}%")
        pictures = connection.execute(select(func.count()).where(with_picture)).scalar_one()
        return CoveredCounts(by_state, pictures)

    def delete(self, connection: Connection, removal_id: str) -> None:
        """Delete a removal's notes as part of a transaction; its tombstones stay."""
        connection.execute(delete(covered_images).where(covered_images.c.removal == removal_id))

    def covered_among(self, tenant: str, pictures: Collection[str]) -> set[str]:
        """Those of some keys of pictures that a removal covered, all of which is gone by now."""
        digests = {tombstone(picture): picture for picture in pictures}
        going = select(removals.c.id).where(
            removals.c.id == tombstones.c.removal, removals.c.step.in_(["mark", "delete"])
        )
        asked = select(tombstones.c.digest).where(
            tombstones.c.tenant == tenant, tombstones.c.digest.in_([*digests]), ~going.exists()
        )
        with self._database.read() as connection:
            return {digests[digest] for digest in connection.execute(asked).scalars()}

    def _pages(self, asked: Select[Any]) -> Iterator[list[MarkedImage]]:
        columns = (covered_images.c.removal, covered_images.c.image_id, covered_images.c.picture)
        ordered, after = asked.order_by(*columns).limit(PAGE), None
        while True:
            with self._database.read() as connection:
                rows = connection.execute(ordered if after is None else ordered.where(_beyond(after))).all()
            if rows:
                yield [MarkedImage.model_validate(row, from_attributes=True) for row in rows]
                after = rows[-1]
            if len(rows) < PAGE:
                return


def to_covered_image(image: StoredImage) -> CoveredImage:
    """What must be known of an image after it is gone."""
    fields = image.model_dump(mode="json", include=FILTERABLE, exclude_none=True)
    return CoveredImage.model_validate({**image.model_dump(include=KNOWN), "fields": fields})


def _beyond(last: Row[Any]) -> Any:
    """The rows after one."""
    return tuple_(covered_images.c.removal, covered_images.c.image_id, covered_images.c.picture) > tuple_(
        last.removal, last.image_id, last.picture
    )
