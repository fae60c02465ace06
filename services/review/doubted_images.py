"""The images of the review queue that the label check holds or warns of, read by an index of the collection."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row, select

from visual_memory.schemas.image import Doubt, StoredImage
from visual_memory.schemas.image_search import LATEST_FIRST
from visual_memory.schemas.review import HELD_SCORE, WARNED_SCORE, ReviewItem, ReviewKind
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import review_marks
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import UNMARKED, doubted
from visual_memory.services.review.queue_source import BATCH, Entry, Position, Source, Total
from visual_memory.services.review.review_rows import rows_of, seen_as

SCORES = {Doubt.HELD: HELD_SCORE, Doubt.WARNED: WARNED_SCORE}


class DoubtedImages(Source):
    """Images that the label check holds or warns of, the latest first."""

    kind = ReviewKind.IMAGE

    def __init__(self, number: int, database: Database, memory: Memory, doubt: Doubt) -> None:
        super().__init__(number)
        self._database = database
        self._memory = memory
        self._where = [doubted(doubt), UNMARKED]
        self._score = SCORES[doubt]

    def after(self, tenant: str, position: Position | None, *, reviewed: bool) -> Iterator[Entry]:  # noqa: ARG002
        """The images after a position, reviewed or not."""
        any_left, last = self.key_after(self._score, position)
        cursor = last
        while any_left:
            images, cursor = self._memory.in_order.page(tenant, self._where, LATEST_FIRST, BATCH, cursor)
            keys = [self._memory.in_order.cursor_at(LATEST_FIRST, image) for image in images]
            marks = self._marks(tenant, images)
            for image, key in zip(images, keys, strict=True):
                if key != last:  # a cursor is where a page begins
                    yield Entry(Position(self._score, self.number, key), self._item(image, marks.get(image.image_id)))
            any_left = cursor is not None

    def total(self, tenant: str, *, reviewed: bool) -> Total:
        """The number of images; where there are more than `BATCH` marks, the marked ones are counted too."""
        total = self._memory.in_order.total(tenant, self._where)
        if reviewed:
            return Total(*total)
        of_kind = (review_marks.c.tenant == tenant) & (review_marks.c.kind == self.kind.value)
        with self._database.read() as connection:
            ids = connection.execute(select(review_marks.c.record).where(of_kind).limit(BATCH + 1)).scalars().all()
        if len(ids) > BATCH:
            return Total(total.images, is_estimate=True)
        images = [image for image in self._memory.images.get(tenant, ids).values() if self._has(image)]
        return Total(total.images - len(self._marks(tenant, images)), total.is_estimate)

    def named(self, tenant: str, ids: Sequence[str]) -> Iterator[ReviewItem]:
        """The images of some ids."""
        images = [image for image in self._memory.images.get(tenant, ids).values() if self._has(image)]
        marks = self._marks(tenant, images)
        yield from (self._item(image, marks.get(image.image_id)) for image in images)

    def _has(self, image: StoredImage) -> bool:
        return image.removal is None and image.doubt is not None and SCORES.get(image.doubt) == self._score

    def _marks(self, tenant: str, images: Sequence[StoredImage]) -> dict[str, Row[Any]]:
        """The marks that count, by image id."""
        with self._database.read() as connection:
            marks = rows_of(connection, review_marks, tenant, self.kind, (image.image_id for image in images))
        seen = {image.image_id: seen_as(image, self.kind) for image in images}
        return {image_id: row for image_id, row in marks.items() if row.seen == seen[image_id]}

    def _item(self, image: StoredImage, mark: Row[Any] | None) -> ReviewItem:
        return ReviewItem(
            kind=self.kind,
            id=image.image_id,
            image_id=image.image_id,
            reason=image.reason or "the label check doubts its label",
            score=self._score,
            reviewed_at=mark and mark.at,
            reviewed_by=mark and mark.by,
        )
