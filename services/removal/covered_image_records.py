"""The records of covered images: written before anything is deleted, kept until the removal is done."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, func, select, tuple_

from visual_memory.schemas.image import NO_PICTURE, State
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import covered_images
from visual_memory.services.removal.covered_images import MarkedImage
from visual_memory.services.removal.removed_image_digests import Tombstones

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
