"""List the images of a memory in the order of a moment, page by page, and count them."""

from collections.abc import Sequence
from typing import NamedTuple

from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import StoredImage, point_id
from visual_memory.schemas.image_search import ImageSort
from visual_memory.services.memory.points.page_cursor import position_of, to_sorted_cursor
from visual_memory.services.memory.points.point_filters import within
from visual_memory.services.memory.points.point_payload import to_image
from visual_memory.services.memory.points.read_and_write_points import Points
from visual_memory.services.vector_engines.engine_contract import Order, Position

COUNTED = 100_000
"""Images up to which a total is exact; counting them takes about 30 ms."""


class Total(NamedTuple):
    """A number of images, and whether it is an estimate."""

    images: int
    is_estimate: bool


class OrderedImages:
    """Pages of images that meet a filter.

    Args:
        points: of the collection.
    """

    def __init__(self, points: Points) -> None:
        self._points = points

    def page(
        self, tenant: str, clauses: Sequence[Clause], sort: ImageSort, limit: int, cursor: str | None = None
    ) -> tuple[list[StoredImage], str | None]:
        """One page of the images that meet a filter; a page takes as long wherever it starts.

        Args:
            tenant: whose images.
            clauses: the checked filter.
            sort: the order; images with the same moment come by point id.
            limit: maximum number of images, at least 1.
            cursor: where to continue, as returned by the previous call.

        Returns:
            the images and the next cursor, None at the end. An image that exists throughout, with the same moment,
            comes exactly once.

        Raises:
            InvalidCursor: the cursor is not one that `page` returned for this order.
        """
        order = Order(sort.removeprefix("-"), descending=sort.startswith("-"))
        payloads, following = self._points.engine.scroll_ordered(
            within(tenant, clauses), order, limit, position_of(sort, cursor)
        )
        images = [to_image(payload) for payload in payloads]
        return images, None if following is None else to_sorted_cursor(sort, following)

    def cursor_at(self, sort: ImageSort, image: StoredImage) -> str:
        """The cursor of the page that starts with an image, or where it would be."""
        moment = image.captured_at if sort.endswith("captured_at") else image.accepted_at
        return to_sorted_cursor(sort, Position(moment, point_id(image.tenant, image.image_id)))

    def total(self, tenant: str, clauses: Sequence[Clause]) -> Total:
        """The number of images that meet a filter: exact unless there are more than about `COUNTED`."""
        where = within(tenant, clauses)
        estimate = self._points.engine.estimate(where)
        return Total(estimate, True) if estimate > COUNTED else Total(self._points.engine.count(where), False)
